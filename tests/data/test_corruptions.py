import hashlib
import subprocess
import sys
from io import BytesIO
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from reliabit.data.corruptions import LEVELS, SEVERITIES, background, corrupt
from reliabit.data.image_decoding import decode_image
from reliabit.data.sources import easy_vqa, scenes
from reliabit.errors import ReliabitError


@pytest.fixture(scope="module")
def images():
    encoded = {row["image_id"]: row["image"] for row in islice(easy_vqa.read_part("test"), 600)}
    return {image_id: decode_image(image, item=image_id) for image_id, image in encoded.items()}


def pixels(image) -> np.ndarray:
    return np.asarray(image).astype(int)


def distances(image, *, corruption: str, image_id: str) -> list[float]:
    corrupted = [
        corrupt(image, corruption=corruption, severity=severity, seed=0, image_id=image_id) for severity in SEVERITIES
    ]
    return [np.abs(pixels(one) - pixels(image)).mean() for one in corrupted]


@pytest.mark.parametrize("corruption", LEVELS)
def test_images_go_farther_from_the_original_with_severity(images, corruption):
    assert len(images) > 50
    every = np.array([distances(image, corruption=corruption, image_id=key) for key, image in images.items()])
    mean = every.mean(axis=0)
    assert mean[0] > 0.1
    assert (np.diff(mean) > 0).all()
    # A coarser JPEG can meet one image's colours better, and a turned shape can come back over itself.
    if corruption not in ("jpeg", "rotation"):
        assert (np.diff(every, axis=1) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(
    corruption=st.sampled_from(sorted(LEVELS)),
    severity=st.sampled_from(SEVERITIES),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    mode=st.sampled_from(["RGB", "L", "RGBA", "P"]),
    seed=st.integers(0, 2**40),
)
def test_any_image_keeps_its_size_and_becomes_rgb(corruption, severity, width, height, mode, seed):
    image = Image.new(mode, (width, height))
    before = image.tobytes()
    corrupted = corrupt(image, corruption=corruption, severity=severity, seed=seed, image_id="i")
    assert (corrupted.size, corrupted.mode) == ((width, height), "RGB")
    assert image.tobytes() == before


DIGEST = """
import hashlib
from PIL import Image
from reliabit.data.corruptions import LEVELS, corrupt
image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
digest = hashlib.sha256()
for name in LEVELS:
    digest.update(corrupt(image, corruption=name, severity=4, seed=3, image_id="test-5").tobytes())
print(digest.hexdigest())
"""


def test_another_process_gets_the_same_pixels():
    digest = hashlib.sha256()
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    for name in LEVELS:
        digest.update(corrupt(image, corruption=name, severity=4, seed=3, image_id="test-5").tobytes())
    for hash_seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        other = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=False
        )
        assert other.stdout.strip() == digest.hexdigest(), other.stderr


@pytest.mark.parametrize("corruption", ["gaussian_noise", "rotation", "occlusion"])
def test_seed_and_image_decide_the_draw(images, corruption):
    image = next(iter(images.values()))
    drawn = {
        corrupt(image, corruption=corruption, severity=3, seed=seed, image_id=image_id).tobytes()
        for seed in range(8)
        for image_id in ("a", "b")
    }
    assert len(drawn) == (2 if corruption == "rotation" else 16)


def test_noise_is_one_draw_scaled():
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    noise = [
        (pixels(corrupt(grey, corruption="gaussian_noise", severity=s, seed=0, image_id="x")) - 128) / 255
        for s in SEVERITIES
    ]
    for level, one in zip((0.04, 0.08, 0.12, 0.15, 0.18), noise, strict=True):
        assert one.std() == pytest.approx(level, rel=0.03)
        # One count of 255 in rounding, for each of the two, apart from what was clipped.
        unclipped = np.abs(noise[-1]) < 0.49
        expected = noise[-1] * level / 0.18
        assert np.abs(one - expected)[unclipped].max() < 1.01 / 255


def test_blur_is_the_gaussian_filter_of_scipy(images):
    for image in islice(images.values(), 5):
        for severity, deviation in enumerate((0.5, 0.75, 1, 1.25, 1.5), start=1):
            blurred = corrupt(image, corruption="gaussian_blur", severity=severity, seed=0, image_id="x")
            expected = gaussian_filter(pixels(image).astype(float), (deviation, deviation, 0), mode="nearest")
            assert np.abs(pixels(blurred) - expected).max() <= 0.5 + 1e-6


def test_contrast_keeps_the_mean_and_scales_the_deviation(images):
    for image in islice(images.values(), 5):
        for severity, left in enumerate((0.4, 0.3, 0.2, 0.1, 0.05), start=1):
            faded = pixels(corrupt(image, corruption="contrast", severity=severity, seed=0, image_id="x"))
            assert faded.mean((0, 1)) == pytest.approx(pixels(image).mean((0, 1)), abs=0.5)
            assert faded.std((0, 1)) == pytest.approx(left * pixels(image).std((0, 1)), abs=0.5)


def test_jpeg_has_the_published_qualities(images):
    image = next(iter(images.values()))
    for severity, quality in enumerate((65, 58, 50, 40, 25), start=1):
        buffer = BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        squeezed = corrupt(image, corruption="jpeg", severity=severity, seed=0, image_id="x")
        assert (pixels(squeezed) == pixels(Image.open(buffer))).all()


@pytest.mark.parametrize("size", [(64, 64), (90, 40), (40, 90)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_rotation_keeps_all_corners_and_all_angles(size, severity):
    image = Image.new("RGB", size, (240, 250, 230))
    width, height = size
    corners = {
        "red": (0, 0, (255, 0, 0)),
        "green": (width - 8, 0, (0, 255, 0)),
        "blue": (0, height - 8, (0, 0, 255)),
        "black": (width - 8, height - 8, (0, 0, 0)),
    }
    for x, y, color in corners.values():
        image.paste(color, (x, y, x + 8, y + 8))
    turned = pixels(corrupt(image, corruption="rotation", severity=severity, seed=0, image_id="x"))
    found, sizes = {}, []
    for name, (_, _, color) in corners.items():
        y, x = np.nonzero(np.abs(turned - color).max(-1) < 100)
        found[name] = np.array([x.mean(), y.mean()])
        sizes.append(len(x))
    # All four whole and equally large; the sides of their rectangle turned by the angle and shrunk alike.
    assert max(sizes) <= 1.5 * min(sizes)
    angle = np.deg2rad((5, 10, 20, 30, 45)[severity - 1])
    across, down = found["green"] - found["red"], found["blue"] - found["red"]
    assert abs(np.arctan2(across[1], across[0])) == pytest.approx(angle, abs=0.03)
    assert np.dot(across, down) == pytest.approx(0, abs=0.05 * np.linalg.norm(across) * np.linalg.norm(down))
    assert np.linalg.norm(across) / np.linalg.norm(down) == pytest.approx((width - 8) / (height - 8), rel=0.05)


def test_rotation_fills_with_the_background(images):
    for image in islice(images.values(), 20):
        turned = corrupt(image, corruption="rotation", severity=5, seed=0, image_id="x")
        border = pixels(image)[[0, -1]].reshape(-1, 3)
        assert background(image) == tuple(np.median(border, axis=0))
        assert {turned.getpixel(corner) for corner in ((0, 0), (63, 0), (0, 63), (63, 63))} == {background(image)}


def test_rotation_keeps_who_is_nearest_and_farthest():
    checked = 0
    for index in range(30):
        shapes = scenes.draw_scene(np.random.default_rng(index))
        image = decode_image(scenes.render(shapes), item="scene")
        turned = pixels(corrupt(image, corruption="rotation", severity=4, seed=index, image_id="x"))
        moved = []
        for shape in shapes:
            y, x = np.nonzero(np.abs(turned - scenes.COLORS[shape.color]).max(-1) < 40)
            if len(x) >= 30:
                moved.append(scenes.Shape(shape.color, shape.shape, round(100 * x.mean()), round(100 * y.mean())))
        if len(moved) < len(shapes):
            continue
        for subject in shapes:
            apart = sorted((s.x - subject.x) ** 2 + (s.y - subject.y) ** 2 for s in shapes if s is not subject)
            for kind, (one, two) in (("nearest", apart[:2]), ("farthest", apart[-2:])):
                # Centres are read off whole pixels: a near tie cannot be told apart.
                if np.sqrt(two) - np.sqrt(one) > 4:
                    checked += 1
                    assert scenes.answer(moved, kind, subject.color) == scenes.answer(shapes, kind, subject.color)
    assert checked > 50


def test_a_larger_occluder_holds_the_smaller_one():
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    for image_id in map(str, range(50)):
        hidden = []
        for severity in SEVERITIES:
            occluded = pixels(corrupt(grey, corruption="occlusion", severity=severity, seed=0, image_id=image_id))
            hidden.append((occluded != 128).any(-1))
            y, x = np.nonzero(hidden[-1])
            side = 64 * (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
            assert max(np.ptp(x), np.ptp(y)) + 1 <= side + 1
            assert hidden[-1].any()
        assert all((larger | ~smaller).all() for smaller, larger in pairwise(hidden))


def test_unknown_names_and_severities_are_refused():
    image = Image.new("RGB", (8, 8))
    with pytest.raises(ReliabitError, match="'fog' is not a corruption of images; choose one of gaussian_noise"):
        corrupt(image, corruption="fog", severity=1, seed=0, image_id="x")
    for severity in (0, 6):
        with pytest.raises(ReliabitError, match=f"contrast has no severity {severity}; choose one of 1, 2, 3, 4, 5"):
            corrupt(image, corruption="contrast", severity=severity, seed=0, image_id="x")
