"""From an encoded image file to RGB of 8 bits: how it is turned, and what the numbers of its pixels stand for.

Pillow converts pixels of more than 8 bits by clipping them, so that nearly all that is not black comes out white. Here
they are scaled by the range that the file's format gives them, and refused where it gives none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

WIDE_MODES = ("I", "F")
"""The first letters of Pillow's modes whose pixels have more than 8 bits: integers and floats."""

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, SMALLEST, LARGEST = 258, 262, 339, 340, 341
"""Tags of TIFF 6.0; the last two are SMinSampleValue and SMaxSampleValue."""

WHITE_IS_ZERO, SIGNED = 0, 2

SIXTEEN_BITS = (0.0, 65535.0)

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag that says how a camera was held (CIPA DC-008), and its values that swap width and height."""


def decode_image(encoded: bytes, *, item: str) -> "Image":
    """Decode an image file to RGB, turned as its EXIF orientation says, as `datasets.Image` (and so lmms-eval) does.

    Pixels of more than 8 bits, which those clip, are scaled; see `to_rgb`. Whoever shows an image to a model, or looks
    whether one can be shown, decodes it here.

    Tables hold the file itself, so `reliabit.data.prepared_table.TABLE_VERSION` knows nothing of this.

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
        is_oriented = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        is_sideways = is_oriented and image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        return (image.height, image.width) if is_sideways else (image.width, image.height)


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


def to_rgb(image: "Image") -> "Image":
    """Turn an image of any mode into RGB.

    Grey of 16 bits is cut to the upper 8, as Pillow does with colours of 16 bits itself. Other pixels of more than 8
    bits are scaled by the range that a TIFF states for them. Transparency is left out, as in lmms-eval: each pixel has
    the colour that the file gives it.

    Args:
        image: As Pillow opened it, or made in memory.

    Raises:
        ValueError: Its pixels are of a kind whose range nothing states, or lie outside of it.

    >>> from PIL import Image
    >>> grey = Image.fromarray(np.array([[0, 2_000, 20_000, 60_000, 65_535]], dtype=np.uint16))
    >>> np.asarray(to_rgb(grey))[0, :, 0].tolist()
    [0, 7, 78, 234, 255]
    """
    if _signed(image) and image.mode == "L":
        # Pillow reads them as if they had no sign.
        raise ValueError(_unknown("signed 8-bit numbers"))
    if image.mode.startswith(WIDE_MODES):
        return _scaled(image).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        # Only on this way is the transparency of a palette not taken for a mistake.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _scaled(image: "Image") -> "Image":
    from PIL import Image

    low, high = _range(image)
    pixels: NDArray[np.float64] = np.asarray(image).astype(np.float64)
    # Written so that what is not a number lies outside as well.
    if not ((pixels >= low) & (pixels <= high)).all():
        raise ValueError(
            f"its pixels are not within the {low:g} to {high:g} that the file states; convert it to 8 bits"
        )
    # 256 steps of equal width, the last of which holds its upper end.
    steps = (pixels - low) / (high + _step(image) - low) * 256
    levels = np.minimum(np.floor(steps), 255).astype(np.uint8)
    return Image.fromarray(255 - levels if _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO else levels)


def _step(image: "Image") -> float:
    """By how much two neighbouring values of a pixel differ."""
    return 0.0 if image.mode.startswith("F") else 1.0


def _range(image: "Image") -> tuple[float, float]:
    """The values that stand for black and white, as the format of the image says."""
    stated = _tag(image, SMALLEST), _tag(image, LARGEST)
    if None not in stated:
        low, high = (float(value) for value in stated)
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"the file states a range from {low:g} to {high:g} for its pixels, which is none")
        return low, high
    if image.mode.startswith("I;16") and image.format != "FITS":
        bits = _tag(image, BITS_PER_SAMPLE) or 16
        return 0.0, float(2**bits - 1)
    # Pillow scales a PGM to 16 bits by the largest value that its header states, and older ones open a PNG like this.
    if image.mode == "I" and image.format in ("PPM", "PNG"):
        return SIXTEEN_BITS
    kind = "32-bit floats" if image.mode.startswith("F") else "integers that may have a sign or 32 bits"
    raise ValueError(_unknown(kind))


def _unknown(kind: str) -> str:
    return (
        f"its pixels are {kind}, and nothing in the file says which of them are black and white; convert it to 8 bits"
    )


def _signed(image: "Image") -> bool:
    return bool(_tag(image, SAMPLE_FORMAT) == SIGNED)


def _tag(image: "Image", number: int) -> Any:
    """A tag of a TIFF, of the first channel where each has one; `None` where there is none."""
    value = image.tag_v2.get(number) if image.format == "TIFF" else None  # type: ignore[attr-defined]
    return value[0] if isinstance(value, tuple) else value
