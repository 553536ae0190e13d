import json
import shutil
from collections import Counter
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from reliabit.data.image_decoding import decode_image
from reliabit.data.prepared_table import bad_samples_file, load_split, prepare
from reliabit.data.sources import DataConfig, easy_vqa
from reliabit.data.table import checked
from reliabit.errors import ReliabitError


@pytest.fixture
def small_root(tmp_path):
    """The layout of the packaged set with two images and three questions."""
    for part in ("train", "test"):
        images = tmp_path / part / "images"
        images.mkdir(parents=True)
        for number in (0, 1):
            Image.new("RGB", (64, 64), "white").save(images / f"{number}.png")
        questions = [
            ["what color is the shape?", "red", 1],
            ["is there a circle?", "no", 0],
            ["what shape?", "circle", 0],
        ]
        (tmp_path / part / "questions.json").write_text(json.dumps(questions))
    return tmp_path


def test_packaged_set_has_the_published_size():
    parts = {part: list(easy_vqa.read_part(part)) for part in ("train", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 38575, "test": 9673}
    assert {part: len({row["image_id"] for row in rows}) for part, rows in parts.items()} == {
        "train": 4000,
        "test": 1000,
    }
    answers = {row["answers"][0] for rows in parts.values() for row in rows}
    assert len(answers) == 13
    assert sum(row["answer_type"] == "yes/no" for row in parts["test"]) == 7136


def test_questions_keep_their_published_answer_and_image():
    published = json.loads((easy_vqa.packaged_root() / "test" / "questions.json").read_text())
    rows = list(easy_vqa.read_part("test"))
    read = Counter((row["question"], row["answers"][0], int(row["image_id"].removeprefix("test-"))) for row in rows)
    assert read == Counter(tuple(entry) for entry in published)


def test_question_types_agree_with_the_answers():
    for row in easy_vqa.read_part("test"):
        assert (row["question_type"] in ("shape", "color")) == (row["answer_type"] == "other")
        if row["question_type"] == "color presence":
            assert any(color in row["question"] for color in easy_vqa.COLORS)


def test_images_are_64_pixels_wide():
    row = next(iter(easy_vqa.read_part("train")))
    assert Image.open(BytesIO(row["image"])).size == (64, 64)


def test_missing_image_is_named(small_root):
    (small_root / "train" / "images" / "1.png").unlink()
    with pytest.raises(ReliabitError, match=r"1\.png is missing"):
        list(easy_vqa.read_part("train", root=small_root))


def test_corrupt_image_is_named(small_root):
    (small_root / "train" / "images" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(ReliabitError, match=r"image 'train-0'.*cannot be decoded"):
        list(checked(easy_vqa.read_part("train", root=small_root)))


def test_truncated_image_is_named(small_root):
    path = small_root / "train" / "images" / "0.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ReliabitError, match="cannot be decoded"):
        list(checked(easy_vqa.read_part("train", root=small_root)))


def test_question_without_an_answer_is_named(small_root):
    (small_root / "train" / "questions.json").write_text(json.dumps([["is it red?", "", 0]]))
    with pytest.raises(ReliabitError, match="'train-0'.*has no answers"):
        list(checked(easy_vqa.read_part("train", root=small_root)))


def test_missing_part_is_named(small_root):
    shutil.rmtree(small_root / "test")
    with pytest.raises(ReliabitError, match=r"questions\.json does not exist"):
        list(easy_vqa.read_part("test", root=small_root))


def test_empty_image_says_so():
    with pytest.raises(ReliabitError, match="the file is empty"):
        decode_image(b"", item="question 'x'")


def test_a_set_of_ones_own_that_was_changed_is_not_taken_for_the_table_made_of_it(small_root, tmp_path):
    data = DataConfig(name="easy_vqa", root=str(small_root), splits={"val": 1, "test": 1}, seed=0)
    folder = prepare(data, root=tmp_path / "tables")
    assert prepare(data, root=tmp_path / "tables") == folder
    listed = small_root / "test" / "questions.json"
    listed.write_text(listed.read_text().replace("red", "blue"))
    with pytest.raises(ReliabitError, match=rf"{listed} was changed after .*; delete {folder} to prepare it anew"):
        prepare(data, root=tmp_path / "tables")


def test_bad_samples_are_listed_and_left_out_where_they_are_to_be_skipped(small_root, tmp_path, capsys):
    questions = [["what shape?", "circle", 0], ["is it red?", "", 0], ["what shape?", "circle", 1], ["why?", "red", 2]]
    (small_root / "train" / "questions.json").write_text(json.dumps(questions))
    (small_root / "train" / "images" / "1.png").write_bytes(b"no picture")
    data = DataConfig(name="easy_vqa", root=str(small_root), splits={"val": 1})
    with pytest.raises(ReliabitError, match="'train-1'.* has no answers"):
        prepare(data, root=tmp_path / "tables")
    folder = prepare(replace(data, on_bad_sample="skip"), root=tmp_path / "tables")
    assert load_split(folder, "val")["question_id"][:] == ["train-0"]
    listed = [json.loads(line) for line in bad_samples_file(folder).read_text().splitlines()]
    assert [(sample["question_id"], sample["detail"][-60:]) for sample in listed] == [
        ("train-1", "has no answers; add at least one reference answer or remove the question"[-60:]),
        ("train-2", "of no known format); replace the file or remove its questions"[-60:]),
        ("train-3", "(the file is empty); replace the file or remove its questions"[-60:]),
    ]
    assert "3 samples cannot be used" in capsys.readouterr().err
