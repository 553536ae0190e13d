"""What pictures are like: as Pillow and pandas say, computed once a split, and found by the digest that a run has."""

import json
from dataclasses import astuple
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageStat

from reliabit.data import image_statistics
from reliabit.data.image_statistics import ImageStatistics, image_columns, statistics_of, statistics_of_split, thirds
from reliabit.data.prepared_table import prepare, read_manifest
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError


def encoded(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_brightness_and_contrast_are_pillows():
    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 30, 3), dtype=np.uint8)
    found = statistics_of(encoded(pixels), item="noise")
    grey = ImageStat.Stat(Image.fromarray(pixels).convert("L"))
    assert found.size == 1200
    # Pillow rounds luma to whole numbers.
    assert found.brightness == pytest.approx(grey.mean[0] / 255, abs=0.003)
    assert found.contrast == pytest.approx(grey.stddev[0] / 255, abs=0.003)


def test_colors_and_edges_are_counted():
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    found = statistics_of(encoded(stripes), item="stripes")
    assert (found.colors, found.edges) == (2, 15 / 16)
    flat = statistics_of(encoded(np.full((16, 16, 3), 200, dtype=np.uint8)), item="flat")
    assert (flat.colors, flat.edges, flat.contrast) == (1, 0, 0)
    assert statistics_of(encoded(np.zeros((1, 1, 3), dtype=np.uint8)), item="a pixel").edges == 0


def test_more_pixels_of_the_same_picture_change_its_size_alone():
    small = np.kron(np.random.default_rng(1).integers(0, 2, size=(8, 8), dtype=np.uint8) * 255, np.ones((32, 32)))
    pixels = np.repeat(small.astype(np.uint8)[:, :, None], 3, axis=2)
    large = np.kron(pixels, np.ones((3, 3, 1), dtype=np.uint8))
    found = [statistics_of(encoded(one), item="blocks") for one in (pixels, large)]
    assert found[1].size == 9 * found[0].size
    assert astuple(found[1])[1:3] == pytest.approx(astuple(found[0])[1:3], abs=0.01)


def test_thirds_are_those_of_pandas():
    values = np.random.default_rng(2).normal(size=100)
    names = ("low", "medium", "high")
    assert thirds(values, names) == pd.qcut(values, 3, labels=names).tolist()


def test_each_image_counts_once_however_many_questions_it_has():
    known = {str(shade): ImageStatistics(64.0, shade / 10, 0.0, 1.0, 0.0) for shade in range(9)}
    columns = image_columns(["0"] * 50 + list(known), known)
    assert list(columns) == ["image_brightness"]
    assert columns["image_brightness"][-9:] == ["dark"] * 3 + ["medium"] * 3 + ["bright"] * 3
    assert image_columns(["0", "unknown"], known) == {}
    assert image_columns([], known) == {}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return prepare(DataConfig(name="scenes", splits={"test": 6}, questions_per_image=2), root=root)


def of_split(folder):
    sha256 = read_manifest(folder)["test"].sha256
    return statistics_of_split(folder.parent, split="test", sha256=sha256)


def test_a_split_is_found_by_its_digest_and_computed_once(prepared, monkeypatch):
    found = of_split(prepared)
    assert len(found) == 6
    assert all(key.startswith("scenes/") for key in found)
    monkeypatch.setattr(image_statistics, "load_split", lambda *_: pytest.fail("it is known already"))
    assert of_split(prepared) == found
    assert statistics_of_split(prepared.parent, split="test", sha256="of another split") is None
    assert statistics_of_split(prepared.parent, split="cal", sha256=read_manifest(prepared)["test"].sha256) is None


@pytest.mark.parametrize("damage", ["{", "[]", '{"of": {"version": 0}, "images": {}}', '{"of": 1}'])
def test_what_is_kept_and_damaged_is_computed_anew(prepared, damage):
    found = of_split(prepared)
    kept = prepared.with_name(f"{prepared.name}.test.image_statistics.json")
    kept.write_text(damage)
    assert of_split(prepared) == found
    assert json.loads(kept.read_text())["of"]["version"] == image_statistics.VERSION


def test_a_picture_that_does_not_decode_is_named():
    with pytest.raises(ReliabitError, match="the image of image a/1 cannot be decoded"):
        statistics_of(b"no picture", item="image a/1")
