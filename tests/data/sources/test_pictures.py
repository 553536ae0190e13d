import re
from collections import Counter, defaultdict
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reliabit.data.picture_questions import COLORS, COUNTED, FLAG_COLORS, KINDS, NAMES, PHRASES
from reliabit.data.prepared_table import load_split, prepare, previewed
from reliabit.data.sources import SPLITS, DataConfig, pictures
from reliabit.data.table import checked
from reliabit.errors import ReliabitError

FILE = pictures.picture_file()


@pytest.fixture(scope="module")
def things():
    return pictures.read_things(FILE)


@pytest.fixture(scope="module")
def val():
    """The smallest split."""
    return list(checked(pictures.generate("val", file=FILE)))


@pytest.fixture(scope="module")
def every():
    """The questions of all splits; nothing is drawn for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures.canvas, "beside", lambda *_, **__: b"")
        patch.setattr(pictures.canvas, "scattered", lambda *_, **__: b"")
        return {split: list(pictures.generate(split, file=FILE)) for split in ("dev", "val", "cal", "test")}


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(encoded)).convert("RGB")).astype(int)


def test_no_picture_is_in_two_splits_and_none_comes_twice(things):
    paths = [thing.path for split in things.values() for thing in split]
    assert {*things} == {*SPLITS}
    assert len(paths) == len(set(paths)) == len({thing.image for split in things.values() for thing in split}) == 2652


def test_pictures_are_small_and_of_one_mode(things):
    for thing in things["val"]:
        with Image.open(BytesIO(thing.image)) as image:
            assert (max(image.size), image.mode, image.format) == (144, "P", "PNG")


@pytest.mark.medium
def test_no_split_has_a_picture_that_looks_like_one_of_another(things):
    """Told by another measure than the one that made the splits: how strongly brightness goes together, and colour."""
    held = [(split, thing) for split, some in things.items() for thing in some]
    small = np.array(
        [
            np.asarray(Image.open(BytesIO(thing.image)).convert("RGB").resize((12, 12), Image.Resampling.BOX))
            for _, thing in held
        ]
    ).astype(float)
    light = small.mean(-1).reshape(len(held), -1)
    light -= light.mean(1, keepdims=True)
    light /= np.linalg.norm(light, axis=1, keepdims=True) + 1e-9
    splits = np.array([split for split, _ in held])
    first, second = np.nonzero(np.triu(light @ light.T > 0.98, 1) & (splits[:, None] != splits))
    alike = [(a, b) for a, b in zip(first, second, strict=True) if np.abs(small[a] - small[b]).mean() < 6]
    assert alike == []


def test_names_that_are_asked_are_known_from_training(things, every):
    learned = Counter(thing.noun for thing in things["train"])
    assert sorted(noun for noun, count in learned.items() if noun and count >= 5) == sorted(NAMES)
    asked = {row["answers"][0] for rows in every.values() for row in rows if row["question_type"] == "name"}
    assert asked <= {*NAMES}
    assert {thing.kind for some in things.values() for thing in some} == {*KINDS, ""}
    assert {thing.color for some in things.values() for thing in some} == {*COLORS, ""}


def test_splits_are_as_large_as_measuring_takes(every):
    sizes = {split: (len(rows), len({row["image_id"] for row in rows})) for split, rows in every.items()}
    assert sizes == {"dev": (937, 290), "val": (309, 108), "cal": (1305, 533), "test": (1669, 800)}


def test_no_constant_answer_is_often_right(every):
    for split in ("cal", "test"):
        for kind, most in (("kind", 0.25), ("name", 0.1), ("is_it", 0.5), ("flag", 0.5), ("count", 0.25)):
            answers = Counter(row["answers"][0] for row in every[split] if row["question_type"] == kind)
            assert max(answers.values()) <= most * sum(answers.values()), kind
        for form in ("where", "on which"):
            sides = Counter(row["answers"][0] for row in every[split] if row["question"].startswith(form))
            assert set(sides) == {"left", "right", "top", "bottom"}


def test_every_name_and_kind_is_affirmed_as_often_as_denied(every):
    shapes = [re.escape(phrase).replace(r"\{thing\}", "(?:an? )?(.+?)") for phrase in PHRASES["is_it"]]
    for rows in every.values():
        said = defaultdict(Counter)
        for row in rows:
            if row["question_type"] == "is_it":
                name = next(match[1] for shape in shapes if (match := re.fullmatch(shape, row["question"])))
                said[name][row["answers"][0]] += 1
        assert said
        assert all(counts["yes"] == counts["no"] for counts in said.values())


def test_what_is_denied_is_none_of_a_pictures_names(things, every):
    known = {thing.path: thing for some in things.values() for thing in some}
    denied = 0
    for row in (row for rows in every.values() for row in rows):
        if row["question_type"] == "is_it" and row["answers"][0] == "no":
            thing = known[row["image_id"]]
            said = row["question"].rstrip("?")
            assert not any(re.search(rf"\b{re.escape(name)}$", said.removesuffix(" here")) for name in thing.names())
            denied += 1
    assert denied > 500


def test_colours_are_those_of_the_pixels(things):
    """By the strongest channel alone, of the pixels that are neither light nor dark nor gray."""
    channel = {"red": 0, "green": 1, "blue": 2}
    told = [thing for some in things.values() for thing in some if thing.color in channel][::8]
    assert len(told) > 30
    for thing in told:
        found = pixels(thing.image).reshape(-1, 3)
        lively = found[(found.max(1) - found.min(1) > 70)]
        assert lively.mean(0).argmax() == channel[thing.color], thing.path


def test_flags_have_the_colours_that_are_affirmed_and_none_that_is_denied(things, every):
    known = {thing.path: thing for some in things.values() for thing in some}
    # Not white: that is around pennants as well.
    near = {
        "red": lambda r, g, b: (r > 150) & (g < 70) & (b < 70),
        "green": lambda r, g, b: (g > 90) & (r < 70) & (b < 90),
        "black": lambda r, g, b: (r < 30) & (g < 30) & (b < 30),
    }
    asked = 0
    for row in (row for rows in every.values() for row in rows):
        color = next((name for name in FLAG_COLORS if name in row["question"]), None)
        if row["question_type"] == "flag" and color in near:
            share = near[color](*np.moveaxis(pixels(known[row["image_id"]].image), -1, 0)).mean()
            assert share > 0.01 if row["answers"][0] == "yes" else share < 0.03, row["image_id"]
            asked += 1
    assert asked > 30


def test_a_picture_is_in_one_pair_and_one_count_at_most(things):
    for split in ("val", "cal", "test"):
        drawing = pictures.Drawing(split, things[split])
        paired = [thing.path for two in drawing._two_by_two() for thing in two]
        assert len(paired) == len(set(paired))
        taken = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures.canvas, "scattered", lambda images, rng, to=taken: to.extend(images) or b"")
            list(drawing._scattered())
        assert len(taken) == len(set(taken)) > 20
        assert {*taken} <= {thing.image for thing in things[split]}


def test_questions_of_an_image_come_in_a_row_and_of_all_kinds(val):
    ids = [image for image, _ in groupby(val, key=lambda row: row["image_id"])]
    assert len(ids) == len(set(ids)) > 100
    assert {row["question_type"] for row in val} == {"kind", "name", "is_it", "flag", "count", "where", "colour"}
    assert {len(row["answers"]) for row in val} == {10}
    assert max(len(row["question"].split()) for row in val) <= 14
    assert {"animal", "person"} <= {*COUNTED}


def test_the_questions_are_the_same_every_time(val):
    assert list(pictures.generate("val", file=FILE)) == val


def test_a_table_is_prepared_and_previewed(tmp_path):
    data = DataConfig(name="pictures", splits={"val": 20})
    folder = prepare(data, root=tmp_path)
    assert len(set(load_split(folder, "val")["image_id"])) == 20
    assert "pictures: " in previewed(data, folder)
    assert "20 pictures" in previewed(data, folder)


def test_more_images_than_there_are_are_refused(tmp_path):
    with pytest.raises(ReliabitError, match=r"the splits \{'val': 5000\} ask for 5000 images and there are 108"):
        prepare(DataConfig(name="pictures", splits={"val": 5000}), root=tmp_path)


def test_an_altered_file_is_refused(tmp_path):
    (tmp_path / "pictures.parquet").write_bytes(FILE.read_bytes()[:-1] + b"0")
    with pytest.raises(ReliabitError, match=r"pictures: .* was altered .* restore it, or rebuild it with bench"):
        prepare(DataConfig(name="pictures", splits={"val": 5}, root=str(tmp_path)), root=tmp_path / "prepared")


def test_a_missing_file_is_refused_before_anything_is_read(tmp_path):
    source = pictures.Pictures(DataConfig(name="pictures", splits={"val": 5}, root=str(tmp_path)))
    with pytest.raises(
        ReliabitError, match=r"pictures: .*pictures.parquet does not exist; restore it, or set data.root"
    ):
        source.check_files()


def test_a_file_that_cannot_be_read_is_named(monkeypatch):
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ReliabitError, match=r"pictures: .* cannot be read \(Permission denied\); restore it"):
        pictures.read_things(FILE)
