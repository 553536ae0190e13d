"""Visual shift: six corruptions of an image at five severities, and the image taken away.

Four are those of D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, with the parameters that they chose for 64x64 pixels (Tiny-ImageNet-C), the size of our
images. Rotation and occlusion, and their parameters, are ours; the filling of the occluder is that of Z. Zhong et
al., "Random Erasing Data Augmentation", AAAI 2020.

The severities of a corruption are nested: noise is one draw scaled, rotation keeps its direction, and an occluder
grows around its centre.

A blank canvas in place of the image is the "blind" baseline of the field (A. Agrawal et al., "Don't Just Assume; Look
and Answer", CVPR 2018): what a model still gets right without seeing, it takes from the question alone.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reliabit.data.image_decoding import to_rgb
from reliabit.data.splits import stable_generator
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from PIL.Image import Image

SEVERITIES = (1, 2, 3, 4, 5)
"""The severities of a shift that has them, mildest first."""

LEVELS: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
    "gaussian_blur": (0.5, 0.75, 1.0, 1.25, 1.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "rotation": (5, 10, 20, 30, 45),
    "jpeg": (65, 58, 50, 40, 25),
    "occlusion": (0.1, 0.2, 0.3, 0.4, 0.5),
}
"""The parameter of each corruption at severities 1 to 5: the noise's standard deviation (white is 1), the blur's
standard deviation in pixels, the share of the contrast that is left, the angle in degrees, the JPEG quality, and the
side of the square occluder as a share of the image's shorter side."""

BLANK = (128, 128, 128)
"""The colour of a blank canvas: the middle of the range of each channel."""


def check_severity(severity: int, *, of: str) -> None:
    """Refuse a severity `of` a shift that does not exist.

    Raises:
        ReliabitError: It is not one of `SEVERITIES`.
    """
    if severity not in SEVERITIES:
        raise ReliabitError(f"{of} has no severity {severity}; choose one of {', '.join(map(str, SEVERITIES))}")


def corrupt(image: "Image", *, corruption: str, severity: int, seed: int, image_id: str) -> "Image":
    """Corrupt an image by one of `LEVELS`; the same arguments give the same pixels in every process.

    The seed and the image's id draw its noise, direction and occluder.

    Returns:
        An RGB image of the same size.

    Raises:
        ReliabitError: No corruption has that name, or no such severity.
        ValueError: The image's pixels are of a kind whose range nothing states.

    >>> from PIL import Image
    >>> grey = Image.new("RGB", (64, 64), (128, 128, 128))
    >>> noisy = corrupt(grey, corruption="gaussian_noise", severity=3, seed=0, image_id="test-7")
    >>> noisy.size, bool(abs(np.asarray(noisy).std() / 255 - 0.12) < 0.005)
    ((64, 64), True)
    """
    if corruption not in LEVELS:
        raise ReliabitError(f"{corruption!r} is not a corruption of images; choose one of {', '.join(LEVELS)}")
    check_severity(severity, of=corruption)
    # The severity is not in the key, or the severities of an image would not be nested.
    rng = stable_generator("corruption", corruption, seed, image_id)
    return _CORRUPTIONS[corruption](to_rgb(image), LEVELS[corruption][severity - 1], rng)


def blank(image: "Image") -> "Image":
    """A canvas of one grey (`BLANK`) in the size of an image, so that it costs a model as many tokens.

    >>> from PIL import Image
    >>> canvas = blank(Image.new("L", (64, 48), 255))
    >>> canvas.mode, canvas.size, canvas.getcolors()
    ('RGB', (64, 48), [(3072, (128, 128, 128))])
    """
    return blank_canvas(image.size)


def blank_canvas(size: tuple[int, int]) -> "Image":
    """A canvas of one grey (`BLANK`), width and height in pixels.

    >>> blank_canvas((3, 2)).getcolors()
    [(6, (128, 128, 128))]
    """
    from PIL import Image

    return Image.new("RGB", size, BLANK)


def background(image: "Image") -> tuple[int, int, int]:
    """The background colour of an RGB image: the median of its border pixels, channel by channel.

    >>> from PIL import Image
    >>> background(Image.new("RGB", (8, 8), (250, 245, 230)))
    (250, 245, 230)
    """
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    red, green, blue = (round(float(value)) for value in np.median(border, axis=0))
    return red, green, blue


def _gaussian_noise(image: "Image", deviation: float, rng: np.random.Generator) -> "Image":
    pixels = _unit_pixels(image)
    return _from_unit_pixels(pixels + deviation * rng.standard_normal(pixels.shape))


def _gaussian_blur(image: "Image", deviation: float, _: np.random.Generator) -> "Image":
    # Exact, where Pillow's own Gaussian is an approximation by boxes. Four deviations, as in the paper's library.
    reach = int(4 * deviation + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    pixels = _unit_pixels(image)
    for axis, size in enumerate(pixels.shape[:2]):
        sources = np.arange(size)[:, None] + np.arange(-reach, reach + 1)
        neighbours = pixels.take(sources.clip(0, size - 1), axis=axis)
        pixels = np.tensordot(neighbours, kernel, axes=(axis + 1, 0))
    return _from_unit_pixels(pixels)


def _contrast(image: "Image", left: float, _: np.random.Generator) -> "Image":
    pixels = _unit_pixels(image)
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return _from_unit_pixels((pixels - mean) * left + mean)


def _rotation(image: "Image", degrees: float, rng: np.random.Generator) -> "Image":
    """Turn about the centre and shrink, both axes alike, until the corners are inside again."""
    from PIL.Image import Resampling, Transform

    angle = np.deg2rad(degrees) * rng.choice([-1, 1])
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    width, height = image.size
    grown = max(
        (width * abs(cos) + height * abs(sin)) / width,
        (width * abs(sin) + height * abs(cos)) / height,
    )
    # Pillow asks for the map from a target pixel to its source.
    a, b, d, e = grown * cos, grown * sin, -grown * sin, grown * cos
    x, y = width / 2, height / 2
    matrix = (a, b, x - a * x - b * y, d, e, y - d * x - e * y)
    return image.transform(
        image.size, Transform.AFFINE, matrix, resample=Resampling.BILINEAR, fillcolor=background(image)
    )


def _jpeg(image: "Image", quality: float, _: np.random.Generator) -> "Image":
    from PIL import Image

    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=int(quality))
    return Image.open(buffer).convert("RGB")


def _occlusion(image: "Image", share: float, rng: np.random.Generator) -> "Image":
    """Put a square of noise over the image, cut off where it leaves it.

    Noise, because a flat square would be one more shape of some colour and change the truth of questions.
    """
    from PIL import Image

    pixels = np.array(image)
    height, width, _ = pixels.shape
    center = (rng.integers(height), rng.integers(width))
    noise = rng.integers(256, size=pixels.shape, dtype=np.uint8)
    half = max(share * min(height, width) / 2, 0.5)
    covered = tuple(
        slice(max(round(middle + 0.5 - half), 0), round(middle + 0.5 + half)) for middle in map(float, center)
    )
    pixels[covered] = noise[covered]
    return Image.fromarray(pixels)


def _unit_pixels(image: "Image") -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64) / 255


def _from_unit_pixels(pixels: NDArray[np.float64]) -> "Image":
    from PIL import Image

    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


_CORRUPTIONS: dict[str, Callable[["Image", float, np.random.Generator], "Image"]] = {
    "gaussian_noise": _gaussian_noise,
    "gaussian_blur": _gaussian_blur,
    "contrast": _contrast,
    "rotation": _rotation,
    "jpeg": _jpeg,
    "occlusion": _occlusion,
}
