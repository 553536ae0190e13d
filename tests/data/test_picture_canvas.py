from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from reliabit.data import picture_canvas as canvas


def square(color: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (30, 40), color).save(buffer, format="PNG")
    return buffer.getvalue()


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(encoded)).convert("RGB")).astype(int)


@pytest.mark.parametrize("count", range(1, 7))
def test_scattered_pictures_are_all_there_and_none_covers_another(count):
    for seed in range(5):
        drawn = pixels(canvas.scattered([square("red")] * count, rng=np.random.default_rng(seed)))
        assert drawn.shape == (224, 224, 3)
        _, parts = ndimage.label(drawn[..., 1] < 128)
        assert parts == count


@pytest.mark.parametrize(("first", "second", "axis"), [("left", "right", 1), ("top", "bottom", 0)])
def test_pictures_are_on_their_sides(first, second, axis):
    for seed in range(5):
        drawn = pixels(canvas.beside({second: square("blue"), first: square("red")}, rng=np.random.default_rng(seed)))
        red, blue = drawn[..., 2] < 128, drawn[..., 0] < 128
        across = [np.nonzero(one.any(1 - axis))[0] for one in (red, blue)]
        assert across[0].max() < 112 <= across[1].min()
        assert (red | blue).sum() == red.sum() + blue.sum()


def test_the_generator_alone_decides_a_canvas():
    drawn = [canvas.scattered([square("red")] * 3, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
