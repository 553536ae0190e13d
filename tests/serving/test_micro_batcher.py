"""The batcher alone, with an answering function whose pace the test decides."""

import asyncio
import threading
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliabit.serving.bundle.image_questions import QuestionsRefusedError
from reliabit.serving.http._micro_batcher import MicroBatcher
from reliabit.serving.http.messages import RefusalError


class Doubling:
    """Doubles numbers, a batch at a time, once it is let; refuses negative ones."""

    def __init__(self, *, held=False):
        self.batches = []
        self.gate = threading.Event()
        self.busy = threading.Event()
        self.inside = 0
        if not held:
            self.gate.set()

    def __call__(self, numbers):
        self.inside += 1
        assert self.inside == 1, "two batches at once"
        try:
            self.busy.set()
            assert self.gate.wait(10)
            self.batches.append(list(numbers))
            refused = {row: f"{number} is negative" for row, number in enumerate(numbers) if number < 0}
            if refused:
                raise QuestionsRefusedError(refused)
            if 13 in numbers:
                raise RuntimeError("a defect")
            return [2 * number for number in numbers]
        finally:
            self.inside -= 1


def batcher(answer, *, size=4, fitting=len, queue=100, gather_seconds=0.005):
    return MicroBatcher(answer, size=lambda: size, fitting=fitting, queue=queue, gather_seconds=gather_seconds)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=5), max_size=12), st.integers(1, 6))
def test_everyone_gets_the_answers_to_their_own_questions(groups, size):
    answer = Doubling()

    async def ask():
        async with batcher(answer, size=size) as running:
            return await asyncio.gather(*(running.submit(group) for group in groups))

    assert asyncio.run(ask()) == [[2 * number for number in group] for group in groups]
    assert all(len(batch) <= size for batch in answer.batches)
    assert [number for batch in answer.batches for number in batch] == [number for group in groups for number in group]


def test_questions_that_wait_share_a_batch():
    answer = Doubling(held=True)

    async def ask():
        async with batcher(answer, gather_seconds=0.001) as running:
            first = asyncio.create_task(running.submit([0]))
            await until(answer.busy.is_set)
            others = [asyncio.create_task(running.submit([number])) for number in range(1, 7)]
            await until(lambda: len(running) == 6)
            answer.gate.set()
            return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [[2 * number] for number in range(7)]
    assert answer.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_batch_is_no_larger_than_what_fits_together():
    answer = Doubling(held=True)

    def fitting(numbers):
        return next((end - 1 for end in range(2, len(numbers) + 1) if sum(numbers[:end]) > 10), len(numbers))

    async def ask():
        async with batcher(answer, fitting=fitting) as running:
            first = asyncio.create_task(running.submit([0]))
            await until(answer.busy.is_set)
            others = asyncio.create_task(running.submit([5, 5, 1, 12, 12, 2, 2, 2, 2]))
            await until(lambda: len(running) == 9)
            answer.gate.set()
            return await asyncio.gather(first, others)

    assert asyncio.run(ask()) == [[0], [10, 10, 2, 24, 24, 4, 4, 4, 4]]
    assert answer.batches == [[0], [5, 5], [1], [12], [12], [2, 2, 2, 2]]


def test_a_refused_question_does_not_hurt_its_neighbours():
    answer = Doubling()

    async def ask():
        async with batcher(answer) as running:
            return await asyncio.gather(
                running.submit([1]), running.submit([2, -5]), running.submit([3]), return_exceptions=True
            )

    one, refused, three = asyncio.run(ask())
    assert (one, three) == ([2], [6])
    assert refused.reasons == {1: "-5 is negative"}


def test_a_defect_fails_its_batch_and_no_other():
    answer = Doubling()

    async def ask():
        async with batcher(answer, size=1) as running:
            return await asyncio.gather(running.submit([13]), running.submit([4]), return_exceptions=True)

    failed, answered = asyncio.run(ask())
    assert isinstance(failed, RuntimeError)
    assert answered == [8]


def test_a_full_queue_turns_questions_away_and_takes_none_of_them():
    answer = Doubling(held=True)

    async def ask():
        async with batcher(answer, size=1, queue=3) as running:
            first = asyncio.create_task(running.submit([0]))
            await until(answer.busy.is_set)
            waiting = asyncio.create_task(running.submit([1, 2]))
            await until(lambda: len(running) == 2)
            with pytest.raises(RefusalError) as caught:
                await running.submit([3, 4])
            assert caught.value.retry_after >= 1
            last = asyncio.create_task(running.submit([5]))
            await asyncio.sleep(0)
            answer.gate.set()
            return await asyncio.gather(first, waiting, last)

    assert asyncio.run(ask()) == [[0], [2, 4], [10]]
    assert list(chain(*answer.batches)) == [0, 1, 2, 5]


@pytest.mark.parametrize("left_behind", [[1], [1, 2]])
def test_questions_of_a_client_that_left_are_dropped(left_behind):
    answer = Doubling(held=True)

    async def ask():
        async with batcher(answer, size=1, queue=2) as running:
            first = asyncio.create_task(running.submit([0]))
            await until(answer.busy.is_set)
            left = asyncio.create_task(running.submit(left_behind))
            await until(lambda: len(running) == len(left_behind))
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            assert len(running) == 0, "their places are free again"
            last = asyncio.create_task(running.submit([3, 4]))
            await asyncio.sleep(0)
            answer.gate.set()
            return await asyncio.gather(first, last)

    assert asyncio.run(ask()) == [[0], [6, 8]]
    assert list(chain(*answer.batches)) == [0, 3, 4]


def test_closing_answers_what_waits_and_takes_nothing_more():
    answer = Doubling(held=True)

    async def ask():
        running = batcher(answer, size=2)
        async with running:
            waiting = [asyncio.create_task(running.submit([number])) for number in range(5)]
            await until(answer.busy.is_set)
            threading.Timer(0.05, answer.gate.set).start()
        with pytest.raises(RefusalError):
            await running.submit([9])
        return await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == [[0], [2], [4], [6], [8]]
