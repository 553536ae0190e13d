from collections import Counter, defaultdict
from io import BytesIO
from itertools import groupby

import pytest
from PIL import Image

from reliabit.data.sources import pictures
from reliabit.data.table import checked
from reliabit.errors import ReliabitError

FILE = pictures.picture_file()


@pytest.fixture(scope="module")
def things():
    return pictures.read_things(FILE)


@pytest.fixture(scope="module")
def val():
    """The smallest split."""
    return list(checked(pictures.generate("val", file=FILE, seed=0)))


def test_no_picture_is_in_two_splits_and_none_comes_twice(things):
    paths = [thing.path for split in things.values() for thing in split]
    assert len(paths) == len(set(paths)) > 2000
    assert len({thing.image for split in things.values() for thing in split}) == len(paths)


def test_pictures_have_the_size_that_is_told(things):
    for thing in things["val"]:
        with Image.open(BytesIO(thing.image)) as image:
            assert max(image.size) == 144


def test_questions_of_an_image_come_in_a_row_and_of_all_kinds(val):
    ids = [image for image, _ in groupby(val, key=lambda row: row["image_id"])]
    assert len(ids) == len(set(ids)) > 100
    assert {row["question_type"] for row in val} == {"kind", "name", "is_it", "flag", "count", "where", "colour"}


def test_the_seed_alone_decides_the_questions(val):
    assert list(pictures.generate("val", file=FILE, seed=0)) == val
    assert [row["question"] for row in pictures.generate("val", file=FILE, seed=1)] != [row["question"] for row in val]


def test_every_name_and_kind_is_affirmed_as_often_as_denied(val):
    said = defaultdict(Counter)
    for row in val:
        if row["question_type"] == "is_it":
            name = row["question"].removeprefix("is this ").removeprefix("does the picture show ")
            said[name.removeprefix("do you see ").removesuffix("?").removesuffix(" here")][row["answers"][0]] += 1
    assert len(said) > 30
    assert all(counts["yes"] == counts["no"] for counts in said.values())


def test_an_altered_file_is_refused(tmp_path):
    (tmp_path / "pictures.parquet").write_bytes(FILE.read_bytes()[:-1] + b"0")
    with pytest.raises(ReliabitError, match=r"pictures: .* was altered .* restore it, or rebuild it"):
        pictures.read_things(tmp_path / "pictures.parquet")
