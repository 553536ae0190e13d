"""Small files with many pixels: they are counted together, and turned away before any of them is decoded."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from reliabit.errors import ReliabitError
from reliabit.serving.bundle.image_questions import ImageQuestion
from reliabit.serving.http import intake
from reliabit.serving.http.application import create_application
from reliabit.serving.http.intake import AdmittedRequest, Intake, count_fitting
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError, Request
from serving.requests import in_base64, wait_until

LIMITS = Limits(image_pixels=10_000, batch_pixels=20_000, queue_pixels=30_000)


def solid(width, height, shade=0):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(file, format="PNG")
    return file.getvalue()


def requests(*images):
    return [Request(image=image, question="is it red?") for image in images]


def entering(found, asked):
    return found.admitted(asked, names=[f"question {number}: " for number in range(len(asked))], retry_after=lambda: 7)


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded."""
    seen, check = [], intake.check_image

    def counted(image, *, limits):
        seen.append(image)
        check(image, limits=limits)

    monkeypatch.setattr(intake, "check_image", counted)
    return seen


def admit(*requests_in_turn, limits=LIMITS):
    """Admit requests one inside of the other; the pixels of each."""

    async def run():
        with ThreadPoolExecutor(1) as decoders:
            found = Intake(limits=limits, decoders=decoders)
            async with asyncio.timeout(20):
                return await nested(found, list(requests_in_turn))

    async def nested(found, left):
        if not left:
            return []
        async with entering(found, left[0]) as measured:
            return [[one.pixels for one in measured], *await nested(found, left[1:])]

    return asyncio.run(run())


def test_too_many_pixels_together_are_refused_before_any_is_decoded(decoded):
    images = [solid(100, 100, shade) for shade in range(3)]
    with pytest.raises(RefusalError) as caught:
        admit(requests(*images))
    assert (caught.value.status, decoded) == (413, [])
    assert "the images have 30000 pixels together and at most 20000 are taken" in caught.value.reason


def test_an_image_asked_about_often_counts_and_is_decoded_once(decoded):
    image, other = solid(100, 100), solid(50, 50)
    assert admit(requests(*[image] * 20, other)) == [[10_000] * 20 + [2500]]
    assert decoded == [image, other]


def test_requests_share_the_room_and_give_it_back(decoded):
    images = [solid(100, 100, shade) for shade in range(4)]
    assert admit(requests(images[0], images[1]), requests(images[2])) == [[10_000, 10_000], [10_000]]
    del decoded[:]
    with pytest.raises(RefusalError) as caught:
        admit(requests(images[0], images[1]), requests(images[2]), requests(images[3]))
    assert (caught.value.status, caught.value.retry_after) == (503, 7)
    assert decoded == images[:3]

    async def one_after_the_other():
        with ThreadPoolExecutor(1) as decoders:
            found = Intake(limits=LIMITS, decoders=decoders)
            for ending in (None, RefusalError(422, "no"), asyncio.CancelledError()) * 2:
                try:
                    async with entering(found, requests(images[0], images[1])):
                        if ending is not None:
                            raise ending
                except (RefusalError, asyncio.CancelledError) as error:
                    assert error is ending  # noqa: PT017 - the room would be refused with another

    asyncio.run(one_after_the_other())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 50)), min_size=1, max_size=12), st.integers(1, 120))
def test_as_many_questions_as_fit_share_a_batch(rows, most):
    sizes = {}
    questions = [
        AdmittedRequest(asked=ImageQuestion(image=bytes([name]), question="?"), pixels=sizes.setdefault(name, size))
        for name, size in rows
    ]

    def weight(end):
        return sum({one.asked.image: one.pixels for one in questions[:end]}.values())

    first_alone = next((n for n, one in enumerate(questions) if one.asked != questions[0].asked), len(questions))
    expected = max(end for end in range(1, len(questions) + 1) if weight(end) <= most or end <= first_alone)
    assert count_fitting(questions, pixels=most) == expected


def test_the_service_answers_large_images_a_few_at_a_time(host, monkeypatch):
    """Three requests of two images each wait; together they would be one batch of six."""
    batches, gate, answer = [], threading.Event(), host.answer

    def held(questions):
        batches.append(len(questions))
        assert gate.wait(20)
        return answer(questions)

    monkeypatch.setattr(host, "answer", held)
    limits = Limits(image_pixels=3600, batch_pixels=8000, queue_pixels=24_000)
    pairs = [[solid(60, 60, 10 * pair + one) for one in (1, 2)] for pair in range(4)]
    bodies = [{"questions": [{"image": in_base64(one), "question": "red?"} for one in pair]} for pair in pairs]
    with TestClient(create_application(host, limits=limits)) as client, ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.post, "/batch", json=bodies[0])
        wait_until(lambda: batches == [2])
        waiting = [pool.submit(client.post, "/batch", json=body) for body in bodies[1:3]]
        wait_until(lambda: client.app.state.service.waiting() == 4)
        turned_away = client.post("/batch", json=bodies[3])
        gate.set()
        assert (turned_away.status_code, int(turned_away.headers["Retry-After"]) >= 1) == (503, True)
        assert "the images that wait have too many pixels" in turned_away.json()["detail"]
        assert [one.result().status_code for one in (first, *waiting)] == [200] * 3
        assert batches == [2, 2, 2]
        assert client.post("/batch", json=bodies[3]).status_code == 200
        three = client.post("/batch", json={"questions": bodies[0]["questions"] + bodies[1]["questions"][:1]})
        assert (three.status_code, "10800 pixels together" in three.json()["detail"]) == (413, True)


def test_what_one_limit_allows_fits_into_the_next():
    with pytest.raises(ReliabitError, match=r"the limit batch_pixels is 32000000, below image_pixels \(50000000\)"):
        Limits(image_pixels=50_000_000)
    with pytest.raises(ReliabitError, match="the limit queue_pixels is 5, below batch_pixels"):
        Limits(queue_pixels=5)
