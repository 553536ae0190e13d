"""Looking at an image before the model does: cheap refusals first, and none of it may take the service down."""

from io import BytesIO
from typing import TYPE_CHECKING

from reliabit.data.image_decoding import decode_image
from reliabit.errors import ReliabitError
from reliabit.serving.limits import Limits
from reliabit.serving.refusals import RefusalError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
TOO_LARGE, WRONG_TYPE, INVALID = 413, 415, 422


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
    reliabit.serving.refusals.RefusalError: the image is no PNG, JPEG or WebP file; convert it
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
    """Check that an image can be answered about, its size before its content.

    It is then decoded exactly as offline evaluation does: to RGB, turned as its EXIF data say.

    Args:
        encoded: The image file.
        limits: `image_bytes` and `image_pixels`.

    Raises:
        RefusalError: `measure_image` refuses it, or it is damaged (422).
    """
    measure_image(encoded, limits=limits)
    try:
        decode_image(encoded, item="the request")
    except ReliabitError as error:
        raise RefusalError(INVALID, str(error)) from error
    # A decoder may stumble over damaged files in ways of its own.
    except Exception as error:
        raise RefusalError(INVALID, "the image is damaged; send another file") from error


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
