"""Which questions a page shows, and that what is said of them is what was answered."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from evaluation.sweep_report.made import HOSTILE, answers, illustrate, reported_sweep
from reliabit.evaluation.prediction_columns import image_keys, reported_rows
from reliabit.evaluation.sweep_report.pictures import SIDE, thumbnail, without_pictures
from reliabit.evaluation.sweep_report.questions import (
    FLIPS,
    SPREAD,
    TEXT,
    flipped,
    question_keys,
    shown_questions,
    spread,
)


@pytest.fixture(scope="module")
def tables():
    return [reported_rows(answers(share), "test") for share in (0.95, 0.6)]


def test_what_flipped_was_right_and_is_surely_wrong(tables):
    before, after = (table.to_pylist() for table in tables)
    expected = {
        number
        for number, (one, other) in enumerate(zip(before, after, strict=True))
        if one["accuracy"] >= 0.5 and other["accuracy"] < 0.5 and other["conf_maxprob"] > 0.9
    }
    found = flipped(*tables)
    assert set(found.tolist()) == expected
    # Nobody answers rightly before and wrongly after who is compared with itself.
    assert not len(flipped(tables[0], tables[0]))


def test_the_surest_flip_comes_first(tables):
    sure = tables[1].set_column(
        tables[1].column_names.index("conf_maxprob"),
        "conf_maxprob",
        [np.linspace(0.91, 0.99, tables[1].num_rows)],
    )
    found = flipped(tables[0], sure)
    assert len(found) > FLIPS
    assert found.tolist() == sorted(found.tolist(), reverse=True)


def test_examples_are_spread_over_the_confidences_and_images(tables):
    found = spread(tables[0], count=SPREAD)
    images = [image_keys(tables[0])[row] for row in found]
    assert len(set(images)) == len(found) == SPREAD
    confidence = tables[0]["conf_maxprob"].to_numpy()[found]
    assert confidence.tolist() == sorted(confidence.tolist(), reverse=True)
    assert len(spread(tables[0].slice(0, 3), count=SPREAD)) == 3


def test_examples_reach_the_least_sure_where_images_have_many_questions():
    many = reported_rows(answers(0.6, images={"test": 240, "val": 5, "cal": 5}), "test")
    # Twelve questions an image, the first of which is always sure.
    table = many.set_column(
        many.column_names.index("image_id"), "image_id", [[str(row // 12) for row in range(many.num_rows)]]
    )
    sure = np.where(np.arange(many.num_rows) % 12 == 0, 0.999, np.linspace(0.1, 0.9, many.num_rows))
    table = table.set_column(table.column_names.index("conf_maxprob"), "conf_maxprob", [sure])
    shown = np.sort(sure[spread(table, count=6)])
    assert shown[0] < np.quantile(sure, 0.2)
    assert shown[-1] > np.quantile(sure, 0.9)
    assert np.abs(np.searchsorted(np.sort(sure), shown) / len(sure) - np.linspace(0, 1, 6)).max() < 0.2


def test_each_question_has_what_every_configuration_said():
    cells = reported_sweep().cells
    questions, flips, pictures = shown_questions(
        cells, reported="test", confidences=["maxprob", "selector"], illustrate=illustrate, most=40
    )
    rows = [reported_rows(cell.answers, "test").to_pylist() for cell in cells]
    by_text = {row["question"]: number for number, row in enumerate(rows[0])}
    assert len(questions) <= 40
    for one in questions:
        for said, own in zip(one["said"], rows, strict=True):
            answered = own[by_text[one["question"]]]
            assert said[:2] == [answered["answer"], answered["accuracy"]]
            assert said[2:] == pytest.approx([answered["conf_maxprob"], answered["conf_selector"]], rel=1e-6)
    assert len(flips) == 2
    # All but the one that has no picture.
    assert {one["picture"] for one in questions} - {None} <= set(pictures)
    assert [one["references"] for one in questions if one["picture"] is None] == [[]]
    assert questions[0]["references"] == ["yes", "<u>no</u>"]


def test_fewer_questions_keep_the_spread_ones():
    cells = reported_sweep().cells
    questions, flips, pictures = shown_questions(
        cells, reported="test", confidences=["maxprob"], illustrate=without_pictures, most=8
    )
    assert len(questions) == 8
    assert pictures == {}
    assert all(not one["shown"] for one in flips)
    assert all(one["picture"] is None for one in questions)


def test_without_an_unquantized_model_nothing_flips():
    cells = reported_sweep().cells[1:]
    _, flips, _ = shown_questions(cells, reported="test", confidences=["maxprob"], illustrate=without_pictures, most=30)
    assert flips == []


def test_a_picture_is_small_and_of_a_form_that_browsers_show():
    address = thumbnail(illustrate(None, ["a", "b"])["a"].image, item="a")
    head, _, content = address.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (SIDE, SIDE * 3 // 4)


def test_long_texts_are_cut():
    table = reported_rows(answers(0.9), "test").slice(0, 1)
    column = table.column_names.index("question")
    long = table.set_column(column, "question", [["x" * 5000]])
    cell = reported_sweep().cells[1]
    cut, _, _ = shown_questions(
        [type(cell)(**{**vars(cell), "predictions": long})],
        reported="test",
        confidences=["maxprob"],
        illustrate=without_pictures,
        most=5,
    )
    assert len(cut[0]["question"]) == TEXT
    assert question_keys(table) == ["made/test-0-0"]
    assert table["question"][0].as_py() == f"{HOSTILE} 0"
