"""Micro-batching: questions that arrive together are answered together, one batch at a time, in one worker thread."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

from reliabit.serving.bundle.image_questions import QuestionsRefusedError
from reliabit.serving.http.messages import RefusalError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Waiting(Generic[Question, Answer]):
    """A question in the queue, and where its answer goes."""

    question: Question
    answer: "asyncio.Future[Answer]"

    def fail(self, error: Exception) -> None:
        """Have its answer be an error, if somebody still waits for it."""
        if not self.answer.done():
            self.answer.set_exception(error)

    async def named(self, number: int) -> Answer:
        """The answer; where it is refused, under its number among the questions that it came with."""
        try:
            return await self.answer
        except QuestionsRefusedError as error:
            [reason] = error.reasons.values()
            raise QuestionsRefusedError({number: reason}) from error


class MicroBatcher(Generic[Question, Answer]):
    """Answers questions in batches, in the order in which they came; used as `async with`.

    A question whose client has gone is dropped before it is answered. Leaving the block answers what still waits.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer]],
        *,
        size: Callable[[], int],
        fitting: Callable[[Sequence[Question]], int],
        queue: int,
        gather_seconds: float,
    ) -> None:
        """Set up; nothing runs yet.

        Args:
            answer: Answers a batch, in the worker thread; `QuestionsRefusedError` fails the questions that it names,
                and the others are answered without them; any other exception fails the batch.
            size: Questions a batch at most, asked for before each.
            fitting: How many of so many questions, from the first on, may share a batch; at least one.
            queue: Questions that may wait.
            gather_seconds: How long to wait for further questions while a batch is not full.
        """
        self._answer = answer
        self._size = size
        self._fitting = fitting
        self._room = queue
        self._gather_seconds = gather_seconds
        self._waiting: deque[Waiting[Question, Answer]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._seconds_a_question = 0.0

    def __len__(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    async def __aenter__(self) -> "MicroBatcher[Question, Answer]":
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no further questions, answer those that wait, and stop."""
        self._closing = True
        self._arrived.set()
        try:
            await self._loop
        finally:
            self._worker.shutdown(wait=True)

    async def submit(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that belong together; cancelling this drops those that still wait.

        Raises:
            RefusalError: There is no room for all of them (503), so that none was taken.
            QuestionsRefusedError: One cannot be answered; the first is named, and the others are dropped.
        """
        if self._closing or len(self._waiting) + len(questions) > self._room:
            raise RefusalError.busy("too many questions are waiting", retry_after=self.retry_after)
        loop = asyncio.get_running_loop()
        waiting = [Waiting[Question, Answer](question, loop.create_future()) for question in questions]
        self._waiting.extend(waiting)
        self._arrived.set()
        try:
            return [await one.named(number) for number, one in enumerate(waiting)]
        finally:
            self._drop(waiting)

    @property
    def retry_after(self) -> int:
        """Seconds after which those that wait now may have been answered."""
        return max(1, math.ceil(len(self._waiting) * self._seconds_a_question))

    def _drop(self, waiting: Sequence[Waiting[Question, Answer]]) -> None:
        for one in waiting:
            # Asking for the exception tells asyncio that somebody knows of it.
            if not one.answer.cancel() and not one.answer.cancelled():
                one.answer.exception()
        if any(one.answer.cancelled() for one in waiting):
            self._waiting = deque(one for one in self._waiting if not one.answer.done())

    async def _run(self) -> None:
        while batch := await self._gather():
            start = time.perf_counter()
            await self._answer_batch(batch)
            taken = (time.perf_counter() - start) / len(batch)
            self._seconds_a_question += 0.2 * (taken - self._seconds_a_question)

    async def _gather(self) -> list[Waiting[Question, Answer]]:
        """The next batch; empty when there will be none."""
        while not self._waiting:
            if self._closing:
                return []
            await self._arrival()
        size = self._size()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gather_seconds):
                while len(self._waiting) < size and not self._closing:
                    await self._arrival()
        if not self._waiting:
            # Everyone has gone meanwhile.
            return await self._gather()
        taken = self._fitting([one.question for one in islice(self._waiting, size)])
        return [self._waiting.popleft() for _ in range(taken)]

    async def _arrival(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _answer_batch(self, batch: Sequence[Waiting[Question, Answer]]) -> None:
        loop = asyncio.get_running_loop()
        while batch := [one for one in batch if not one.answer.done()]:
            try:
                answers = await loop.run_in_executor(self._worker, self._answer, [one.question for one in batch])
            except QuestionsRefusedError as error:
                for number, reason in error.reasons.items():
                    batch[number].fail(QuestionsRefusedError({0: reason}))
            except Exception as error:
                for one in batch:
                    one.fail(error)
            else:
                for one, answer in zip(batch, answers, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(answer)
