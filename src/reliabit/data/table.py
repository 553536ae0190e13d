"""The VQA table: the one form in which questions travel from a data source to everything after it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, TypedDict

from reliabit.data.image_modes import to_rgb
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from datasets import Dataset, Features
    from PIL.Image import Image

SPLITS = ("train", "dev", "val", "cal", "test")
"""What each split is for: `train` the reference models only, `dev` trains a Selector, `val` chooses it,
`cal` certifies a threshold, `test` reports. No two of them share an image."""


ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag that says how a camera was held (CIPA DC-008), and its values that swap width and height."""


class VQARow(TypedDict):
    """One question about one image.

    Attributes:
        image: The encoded image file (PNG, JPEG, ...).
        question: The question as it is put to the model.
        answers: One reference answer an annotator, not empty.
        question_id: Unique within the table.
        image_id: Shared by all questions about the same image.
        question_type: The source's own kind of question, such as `color`.
        answer_type: `yes/no`, `number` or `other`, as in VQAv2.
        source: The name of the data source.
    """

    image: bytes
    question: str
    answers: list[str]
    question_id: str
    image_id: str
    question_type: str
    answer_type: str
    source: str


def answer_type(answer: str) -> str:
    """Sort an answer into the three kinds of VQAv2.

    >>> [answer_type(answer) for answer in ("yes", "3", "teal")]
    ['yes/no', 'number', 'other']
    """
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def vqa_features() -> "Features":
    """The fixed schema of the VQA table, as `datasets.Features`; rows hold the image encoded, as raw bytes."""
    # Not needed for --help: it imports datasets.
    from reliabit.data.stored_image import table_features

    return table_features()


def decode_image(encoded: bytes, *, item: str) -> "Image":
    """Decode an image file to RGB, turned as its EXIF orientation says, as `datasets.Image` (and so lmms-eval) does.

    Pixels of more than 8 bits, which those clip, are scaled; see `to_rgb`. Whoever shows an image to a model, or looks
    whether one can be shown, decodes it here.

    Tables hold the file itself, so `reliabit.data.prepare.TABLE_VERSION` knows nothing of this.

    Args:
        encoded: The bytes of the file.
        item: What the image belongs to, for the error message.

    Raises:
        ReliabitError: The bytes are not an image that Pillow can read in full, or nothing says what its pixels stand
            for.

    Example:
        >>> from PIL import Image
        >>> image, file = Image.new("RGB", (40, 20)), BytesIO()
        >>> orientation = image.getexif()
        >>> orientation[0x0112] = 6
        >>> image.save(file, format="JPEG", exif=orientation)
        >>> decode_image(file.getvalue(), item="the example").size, image_size(file.getvalue(), item="the example")
        ((20, 40), (20, 40))
    """
    from PIL import Image, ImageOps

    with _decoding(encoded, item=item):
        image = Image.open(BytesIO(encoded))
        ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)


def image_size(encoded: bytes, *, item: str) -> tuple[int, int]:
    """Width and height of what `decode_image` gives, in pixels, from the header alone.

    Args:
        encoded: The bytes of the file.
        item: What the image belongs to, for the error message.

    Raises:
        ReliabitError: The header is none that Pillow can read.
    """
    from PIL import Image

    with _decoding(encoded, item=item), Image.open(BytesIO(encoded)) as image:
        # Pillow itself turns a TIFF, and of a PNG without EXIF data it would decode all pixels to look behind them.
        told = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        lies = told and image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        return (image.height, image.width) if lies else (image.width, image.height)


@contextmanager
def _decoding(encoded: bytes, *, item: str) -> Iterator[None]:
    from PIL import UnidentifiedImageError

    try:
        yield
    except MemoryError:
        raise
    # Each of Pillow's decoders fails in ways of its own, among them RuntimeError and struct.error.
    except Exception as error:
        unknown = "the file is of no known format" if encoded else "the file is empty"
        reason = unknown if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise ReliabitError(
            f"the image of {item} cannot be decoded ({reason}); replace the file or remove its questions"
        ) from error


def checked(rows: Iterable[VQARow]) -> Iterator[VQARow]:
    """Pass rows on, and stop at the first that would not be a valid row of a VQA table.

    Each image is decoded once, however many questions it has in a row.

    Raises:
        ReliabitError: A question without answers, an empty question, a repeated question id or an image that
            does not decode; the message names the item.
    """
    seen: set[str] = set()
    last: bytes | None = None
    for row in rows:
        item = f"question {row['question_id']!r} (image {row['image_id']!r}) of {row['source']}"
        if not row["question"].strip():
            raise ReliabitError(f"{item} has no text; give it one or remove it")
        if not row["answers"]:
            raise ReliabitError(f"{item} has no answers; add at least one reference answer or remove the question")
        if row["question_id"] in seen:
            raise ReliabitError(f"{item} comes twice; question ids must be unique within a data source")
        seen.add(row["question_id"])
        if row["image"] is not last:
            decode_image(row["image"], item=item)
            last = row["image"]
        yield row


def first_images(table: "Dataset", count: int | None) -> "Dataset":
    """Keep the questions of the first `count` images, in table order (all of them where it is `None`).

    Prepared tables hold their images in a seeded random order, so the first ones are a random sample.
    """
    if count is None:
        return table
    kept: dict[str, None] = {}
    for row, image_id in enumerate(table["image_id"]):
        if image_id not in kept and len(kept) == count:
            return table.select(range(row))
        kept[image_id] = None
    return table
