"""Several pictures on one white canvas, none over another."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from reliabit.data.image_decoding import decode_image

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SIDE = 224
"""Pixels of the canvas, as many as the vision tower of the pretrained reference reads."""

_BESIDE = {"left": (0.27, 0.5), "right": (0.73, 0.5), "top": (0.5, 0.27), "bottom": (0.5, 0.73)}
_GRIDS = (2, 3)
_ROOM = 0.92
"""How much of its field a picture fills at most."""


def beside(placed: dict[str, bytes], *, rng: "np.random.Generator") -> bytes:
    """Put one picture on each of two opposite sides.

    Args:
        placed: The encoded picture of each side: `left` and `right`, or `top` and `bottom`.
        rng: Draws their sizes, and how far they are off the middle.

    Returns:
        The canvas as a PNG file.
    """
    canvas = _white()
    for side, encoded in placed.items():
        across, down = _BESIDE[side]
        off = int(rng.integers(-28, 29))
        at = (across * SIDE, down * SIDE + off) if side in ("left", "right") else (across * SIDE + off, down * SIDE)
        _put(canvas, encoded, center=at, side=int(rng.integers(76, 105)), item=side)
    return _encode(canvas)


def scattered(pictures: Sequence[bytes], *, rng: "np.random.Generator") -> bytes:
    """Scatter up to nine pictures over the fields of a grid.

    Args:
        pictures: The encoded pictures.
        rng: Draws the grid, the fields and the sizes.

    Returns:
        The canvas as a PNG file.
    """
    grids = [grid for grid in _GRIDS if grid * grid >= len(pictures)]
    grid = grids[int(rng.integers(len(grids)))]
    field = SIDE / grid
    canvas = _white()
    for encoded, place in zip(pictures, rng.permutation(grid * grid).tolist(), strict=False):
        side = int(field * _ROOM * (0.8 + 0.2 * rng.random()))
        free = (field - side) / 2
        off = rng.uniform(-free, free, size=2).tolist()
        center = ((place % grid + 0.5) * field + off[0], (place // grid + 0.5) * field + off[1])
        _put(canvas, encoded, center=center, side=side, item=str(place))
    return _encode(canvas)


def _white() -> "Image":
    from PIL import Image

    return Image.new("RGB", (SIDE, SIDE), "white")


def _put(canvas: "Image", encoded: bytes, *, center: tuple[float, float], side: int, item: str) -> None:
    from PIL import Image

    picture = decode_image(encoded, item=item).convert("RGB")
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas.paste(picture, (round(center[0] - width / 2), round(center[1] - height / 2)))


def _encode(canvas: "Image") -> bytes:
    buffer = BytesIO()
    canvas.save(buffer, format="PNG")
    return buffer.getvalue()
