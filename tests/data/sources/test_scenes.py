from io import BytesIO
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from reliabit.data.sources import scenes
from reliabit.data.table import checked


@pytest.fixture(scope="module")
def rows():
    return list(scenes.generate(images=40, questions_per_image=10, seed=7))


SQUARE, DISC = 121, 97
"""Pixels of a filled square 11 wide, and of the disc in it."""


def objects_in(encoded: bytes) -> dict[str, tuple[str, float, float]] | None:
    """Read shape and centre of each object off the pixels alone; nothing where one hides a part of another."""
    pixels = np.asarray(Image.open(BytesIO(encoded)).convert("RGB")).astype(int)
    found = {}
    for color, value in scenes.COLORS.items():
        y, x = np.nonzero((pixels == np.array(value)).all(-1))
        if len(x) not in (SQUARE, DISC):
            return None
        found[color] = ("rectangle" if len(x) == SQUARE else "circle", (x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
    return found


def truth(objects: dict[str, tuple[str, float, float]], question: str) -> str:
    color = next(color for color in scenes.COLORS if f"{color} object" in question)
    shape, x, y = objects[color]
    others = sorted((np.hypot(ox - x, oy - y), s) for c, (s, ox, oy) in objects.items() if c != color)
    if "left" in question:
        return "yes" if x < 37.5 else "no"
    if "top" in question:
        return "yes" if y < 37.5 else "no"
    if "nearest" in question:
        return others[0][1]
    if "farthest" in question:
        return others[-1][1]
    if "how many" in question:
        return str(sum(s == shape for s, _, _ in objects.values()))
    return shape


def test_answers_follow_from_the_pixels(rows):
    visible = [(row, objects) for row in rows if (objects := objects_in(row["image"])) is not None]
    assert len(visible) > 100
    for row, objects in visible:
        assert row["answers"] == [truth(objects, row["question"])] * 10, row["question"]


def test_every_image_has_half_relational_questions(rows):
    for _, group in groupby(rows, key=lambda row: row["image_id"]):
        kinds = [row["question_type"] for row in group]
        assert len(kinds) == 10
        assert sum(kind in scenes.ABOUT_ALL for kind in kinds) == 5


def test_images_do_not_depend_on_how_many_are_asked_for(rows):
    assert list(scenes.generate(images=3, questions_per_image=10, seed=7)) == rows[:30]


def test_seed_decides_the_images(rows):
    other = next(scenes.generate(images=1, questions_per_image=10, seed=8))
    assert other["image"] != rows[0]["image"]


def test_all_kinds_of_answers_occur(rows):
    assert {row["answer_type"] for row in rows} == {"yes/no", "number", "other"}


def test_rows_are_valid(rows):
    assert len(list(checked(rows))) == 400


def test_an_unknown_kind_of_question_is_refused():
    with pytest.raises(ValueError, match="no question of the kind"):
        scenes.answer([scenes.Shape("red", "circle", 9, 9)], "size", "red")
