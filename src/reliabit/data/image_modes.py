"""From an image as its file stores it to RGB of 8 bits: what the numbers of its pixels stand for.

Pillow converts pixels of more than 8 bits by clipping them, so that nearly all that is not black comes out white. Here
they are scaled by the range that the file's format gives them, and refused where it gives none.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

WIDE_MODES = ("I", "F")
"""The first letters of Pillow's modes whose pixels have more than 8 bits: integers and floats."""

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, SMALLEST, LARGEST = 258, 262, 339, 340, 341
"""Tags of TIFF 6.0; the last two are SMinSampleValue and SMaxSampleValue."""

WHITE_IS_ZERO, SIGNED = 0, 2

SIXTEEN_BITS = (0.0, 65535.0)


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
