"""Between a request and the queue: its images are measured, room is held for their pixels, and then they are decoded.

A file of 100 kB can hold millions of pixels, each of which takes time and memory twice: here and before the model.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from reliabit.serving.images import check_image, measure_image
from reliabit.serving.limits import Limits
from reliabit.serving.messages import Request
from reliabit.serving.questions import Asked
from reliabit.serving.refusals import RefusalError

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A question and the size of its image.

    Attributes:
        asked: The question.
        pixels: Of its image.
    """

    asked: Asked
    pixels: int


def fitting(questions: Sequence[Measured], *, pixels: int) -> int:
    """How many questions, from the first on, have no more than so many pixels in their distinct images; at least one.

    >>> one, other = (Asked(image=image, question="red?") for image in (b"one", b"other"))
    >>> questions = [Measured(asked=asked, pixels=60) for asked in (one, one, other)]
    >>> fitting(questions, pixels=100), fitting(questions, pixels=120), fitting(questions, pixels=50)
    (2, 3, 2)
    """
    distinct: dict[bytes, int] = {}
    for number, one in enumerate(questions):
        distinct[one.asked.image] = one.pixels
        if len(distinct) > 1 and sum(distinct.values()) > pixels:
            return number
    return len(questions)


def check_total(pixels: Iterable[int], *, limits: Limits) -> int:
    """The pixels of the distinct images of a request.

    Args:
        pixels: Of each distinct image.
        limits: `batch_pixels`.

    Raises:
        RefusalError: They are too many together (413).
    """
    total = sum(pixels)
    if total > limits.batch_pixels:
        raise RefusalError(
            413,
            f"the images have {total} pixels together and at most {limits.batch_pixels} are taken; "
            "shrink them or split the request",
        )
    return total


class Intake:
    """Checks requests in threads of its own, and never admits more pixels at once than `limits.queue_pixels`."""

    def __init__(self, *, limits: Limits, decoders: Executor) -> None:
        """Nothing is held yet.

        Args:
            limits: What is taken.
            decoders: Where images are looked at.
        """
        self._limits = limits
        self._decoders = decoders
        self._held = 0

    @asynccontextmanager
    async def admitted(
        self, asked: Sequence[Request], *, names: Sequence[str], retry_after: Callable[[], int]
    ) -> AsyncIterator[list[Measured]]:
        """Check the questions of one request; their pixels are held until the block ends.

        Args:
            asked: The questions.
            names: What each is called where it is refused.
            retry_after: Says when there may be room again.

        Raises:
            RefusalError: A question or an image cannot be taken, or there is no room (503).
        """
        pixels: dict[bytes, int] = {}
        for name, one in zip(names, asked, strict=True):
            _check_question(one.question, name=name, most=self._limits.question_characters)
            if one.image not in pixels:
                pixels[one.image] = await self._look(measure_image, one.image, name=name)
        with self._holding(check_total(pixels.values(), limits=self._limits), retry_after=retry_after):
            unchecked = set(pixels)
            for name, one in zip(names, asked, strict=True):
                if one.image in unchecked:
                    unchecked.remove(one.image)
                    await self._look(check_image, one.image, name=name)
            yield [Measured(asked=one.asked(), pixels=pixels[one.image]) for one in asked]

    @contextmanager
    def _holding(self, pixels: int, *, retry_after: Callable[[], int]) -> Iterator[None]:
        if self._held + pixels > self._limits.queue_pixels:
            seconds = retry_after()
            raise RefusalError(
                503, f"the images that wait have too many pixels; try again in {seconds} s", retry_after=seconds
            )
        self._held += pixels
        try:
            yield
        finally:
            self._held -= pixels

    async def _look(self, look: Callable[..., Found], image: bytes, *, name: str) -> Found:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._decoders, lambda: look(image, limits=self._limits))
        except RefusalError as error:
            raise RefusalError(error.status, name + error.reason) from error


def _check_question(question: str, *, name: str, most: int) -> None:
    if len(question) > most:
        raise RefusalError(
            422, f"{name}the question has {len(question)} characters and at most {most} are taken; shorten it"
        )
