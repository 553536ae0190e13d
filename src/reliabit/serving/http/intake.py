"""Between a request and the queue: images are measured, room is held for their pixels, and then they are decoded.

A file of 100 kB can hold millions of pixels, each of which takes time and memory twice: here and before the model.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from reliabit.data.image_decoding import decode_image
from reliabit.errors import ReliabitError
from reliabit.serving.bundle.image_questions import ImageQuestion
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError, Request

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
TOO_LARGE, WRONG_TYPE, INVALID = 413, 415, 422

Found = TypeVar("Found")


def measure_image(encoded: bytes, *, limits: Limits) -> int:
    """Count an image's pixels by its header; nothing of it is decoded.

    Args:
        encoded: The image file.
        limits: `image_bytes` and `image_pixels`.

    Raises:
        RefusalError: It is too large (413), of another format or animated (415), or its header is damaged (422).

    >>> measure_image(b"GIF89a", limits=Limits())
    Traceback (most recent call last):
    ...
    reliabit.serving.http.messages.RefusalError: the image is no PNG, JPEG or WebP file; convert it
    """
    if not encoded:
        raise RefusalError(INVALID, "the image is empty; send a PNG, JPEG or WebP file")
    if len(encoded) > limits.image_bytes:
        raise RefusalError(
            TOO_LARGE, f"the image has {len(encoded)} bytes and at most {limits.image_bytes} are taken; shrink it"
        )
    image = _open(encoded, limits=limits)
    if image.width * image.height > limits.image_pixels:
        raise _too_many_pixels(limits, size=f"{image.width} x {image.height} pixels")
    # What phones write as MPO is a JPEG with further pictures behind it, which everyone leaves alone.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise RefusalError(WRONG_TYPE, "the image is animated; send one frame of it")
    return image.width * image.height


def check_image(encoded: bytes, *, limits: Limits) -> None:
    """Check that an image can be answered about: what `measure_image` refuses, and whether it is damaged (422).

    It is decoded exactly as offline evaluation does: to RGB, turned as its EXIF data say.
    """
    measure_image(encoded, limits=limits)
    try:
        decode_image(encoded, item="the request")
    except ReliabitError as error:
        raise RefusalError(INVALID, str(error)) from error
    # A decoder may stumble over damaged files in ways of its own.
    except Exception as error:
        raise RefusalError(INVALID, "the image is damaged; send another file") from error


def look_at(image: bytes, look: Callable[..., Found], *, name: str, limits: Limits) -> Found:
    """`measure_image` or `check_image` of an image, whose question is named where it is refused."""
    try:
        return look(image, limits=limits)
    except RefusalError as error:
        raise RefusalError(error.status, name + error.reason) from error


def check_total(pixels: Iterable[int], *, limits: Limits) -> int:
    """The pixels of a request's distinct images together, if they are no more than `limits.batch_pixels` (else 413)."""
    total = sum(pixels)
    if total > limits.batch_pixels:
        raise RefusalError(
            TOO_LARGE,
            f"the images have {total} pixels together and at most {limits.batch_pixels} are taken; "
            "shrink them or split the request",
        )
    return total


class Budget:
    """What all requests together may hold of something."""

    def __init__(self, most: int, *, exceeded: str) -> None:
        """Start with nothing held; `exceeded` is what a request is told for which too little is left."""
        self._most = most
        self._exceeded = exceeded
        self._held = 0

    @contextmanager
    def reserve(self, *, retry_after: Callable[[], int] = lambda: 1) -> Iterator[Callable[[int], None]]:
        """Give a function that takes so much more; all is given back when the block ends.

        >>> budget = Budget(10, exceeded="all requests together have too large bodies")
        >>> with budget.reserve() as one, budget.reserve() as other:
        ...     one(6)
        ...     other(5)
        Traceback (most recent call last):
        ...
        reliabit.serving.http.messages.RefusalError: all requests together have too large bodies; try again in 1 s
        >>> with budget.reserve() as again:
        ...     again(10)
        """
        taken = 0

        def take(more: int) -> None:
            nonlocal taken
            if self._held + more > self._most:
                raise RefusalError.busy(self._exceeded, retry_after=retry_after())
            self._held += more
            taken += more

        try:
            yield take
        finally:
            self._held -= taken


@dataclass(frozen=True, kw_only=True)
class AdmittedRequest:
    """A question that may wait for the model, and the pixels of its image, which are held for it."""

    asked: ImageQuestion
    pixels: int


def count_fitting(questions: Sequence[AdmittedRequest], *, pixels: int) -> int:
    """How many questions, from the first on, have no more than so many pixels in their distinct images; at least one.

    >>> one, other = (ImageQuestion(image=image, question="red?") for image in (b"one", b"other"))
    >>> questions = [AdmittedRequest(asked=asked, pixels=60) for asked in (one, one, other)]
    >>> count_fitting(questions, pixels=100), count_fitting(questions, pixels=120), count_fitting(questions, pixels=50)
    (2, 3, 2)
    """
    distinct: dict[bytes, int] = {}
    for number, one in enumerate(questions):
        distinct[one.asked.image] = one.pixels
        if len(distinct) > 1 and sum(distinct.values()) > pixels:
            return number
    return len(questions)


class Intake:
    """Checks requests in threads of its own, and never admits more pixels at once than `limits.queue_pixels`."""

    def __init__(self, *, limits: Limits, decoders: Executor) -> None:
        """Nothing is held yet; `decoders` is where images are looked at."""
        self._limits = limits
        self._decoders = decoders
        self._pixels = Budget(limits.queue_pixels, exceeded="the images that wait have too many pixels")

    @asynccontextmanager
    async def admitted(
        self, asked: Sequence[Request], *, names: Sequence[str], retry_after: Callable[[], int]
    ) -> AsyncIterator[list[AdmittedRequest]]:
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
        with self._pixels.reserve(retry_after=retry_after) as take:
            take(check_total(pixels.values(), limits=self._limits))
            unchecked = set(pixels)
            for name, one in zip(names, asked, strict=True):
                if one.image in unchecked:
                    unchecked.remove(one.image)
                    await self._look(check_image, one.image, name=name)
            yield [AdmittedRequest(asked=one.asked(), pixels=pixels[one.image]) for one in asked]

    async def _look(self, look: Callable[..., Found], image: bytes, *, name: str) -> Found:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, lambda: look_at(image, look, name=name, limits=self._limits))


def _check_question(question: str, *, name: str, most: int) -> None:
    if len(question) > most:
        raise RefusalError(
            INVALID, f"{name}the question has {len(question)} characters and at most {most} are taken; shorten it"
        )


def _open(encoded: bytes, *, limits: Limits) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(BytesIO(encoded), formats=FORMATS)
    # Pillow only warns of moderate bombs; the caller counts pixels, so that the warning matters where it is an error.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(limits, size="far more pixels") from error
    except UnidentifiedImageError as error:
        raise RefusalError(WRONG_TYPE, "the image is no PNG, JPEG or WebP file; convert it") from error
    except Exception as error:
        raise RefusalError(INVALID, "the header of the image is damaged; send another file") from error


def _too_many_pixels(limits: Limits, *, size: str) -> RefusalError:
    return RefusalError(TOO_LARGE, f"the image has {size} and at most {limits.image_pixels} are taken; shrink it")
