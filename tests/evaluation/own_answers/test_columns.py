"""Columns of somebody's own answers: found by name, and refused with the line of the first bad value."""

import numpy as np
import pytest
import torch

from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.columns import Columns, check_apart, read_columns
from reliabit.evaluation.own_answers.files import open_table


def read(columns, **named):
    return read_columns(open_table(columns), Columns(**named))


@pytest.mark.parametrize(
    "correct",
    [
        [1, 0, 1],
        [True, False, True],
        ["true", "FALSE", " True "],
        ["1", "0", "1.0"],
        np.array([1, 0, 1], dtype=np.float32),
        torch.tensor([True, False, True]),
        [True, "false", 1.0],
    ],
)
def test_right_and_wrong_may_be_written_in_many_ways(correct):
    assert read({"confidence": [0.1, 0.2, 0.3], "correct": correct}).correct.tolist() == [1, 0, 1]


def test_shares_of_a_narrow_type_are_what_was_meant():
    assert read({"confidence": [0.1, 0.2], "correct": np.float32([0.9, 0.3])}).correct.tolist() == [0.9, 0.3]


def test_columns_are_found_by_what_they_are_usually_called():
    columns = {
        "Image ID": ["a", "a"],
        "Is-Correct": [1, 0],
        " MaxProb": [0.5, 0.4],
        "selector": [1, 2],
        "subset": ["cal"] * 2,
    }
    found = read(columns)
    assert found.columns == {
        "confidence": " MaxProb",
        "correct": "Is-Correct",
        "group": "Image ID",
        "split": "subset",
        "second": "selector",
    }
    assert list(found.outside) == ["selector"]
    assert found.grouped
    # The name itself goes before what else it may be called.
    assert read({"confidence": [0.5], "score": [3], "correct": [1]}).columns["confidence"] == "confidence"
    assert read({"confidence": [0.5], "score": [3], "correct": [1]}, confidence="score").outside == {
        "score": "score is 3 in row 1 of the table"
    }


@pytest.mark.parametrize(
    ("columns", "named", "message"),
    [
        ({"correct": [1]}, {}, "the table has no column of the confidence, such as confidence, conf"),
        ({}, {}, "such as confidence, conf, conf_maxprob: it is empty"),
        (
            {"prob": [1], "score": [1], "correct": [1]},
            {},
            "several columns that could be the confidence: prob, score; say",
        ),
        (
            {"confidence": [1], "correct": [1]},
            {"group": "img"},
            "has no column img, which is named as group; its columns",
        ),
        ({"confidence": [1], "correct": [1]}, {"second": "confidence"}, "is named as confidence and as second; name"),
        ({"confidence": [], "correct": []}, {}, "the table has no row; at least one answer is needed"),
        ({"confidence": [0.5, None], "correct": [1, 1]}, {}, "confidence is missing in row 2 of the table; every"),
        ({"confidence": ["0.5", "nan"], "correct": [1, 1]}, {}, "confidence is 'nan' in row 2 of the table; every"),
        ({"confidence": ["0.5", "sure"], "correct": [1, 1]}, {}, "confidence is 'sure' in row 2 of the table"),
        ({"confidence": [0.5, np.inf], "correct": [1, 1]}, {}, "confidence is inf in row 2 of the table"),
        (
            {"confidence": [1, 1], "correct": [1, 2]},
            {},
            "correct is 2 in row 2 of the table; it must be 0 or 1, true or",
        ),
        ({"confidence": [1, 1], "correct": [1, "maybe"]}, {}, "correct is 'maybe' in row 2 of the table; it must be"),
        (
            {"confidence": [1], "correct": [1], "split": ["fold 3"]},
            {},
            "split is 'fold 3' in row 1 of the table; it must",
        ),
        ({"confidence": [1], "correct": [1], "split": [None]}, {}, "split is missing in row 1 of the table"),
        ({"confidence": [1, 1], "correct": [1, 1], "group": ["a", ""]}, {}, "group is missing in row 2 of the table"),
        ({"confidence": np.ones((2, 2)), "correct": [1, 1]}, {}, "the column confidence has the shape (2, 2)"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_with_its_place(columns, named, message):
    with pytest.raises(ReliabitError) as refused:
        read(columns, **named)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_line_of_a_csv_is_counted_as_an_editor_counts(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text('confidence,correct,note\n0.5,1,"two\nlines"\n\n0.4,7,plain\n')
    with pytest.raises(ReliabitError, match=r"correct is '7' in line 5 of .*answers.csv; it must be 0 or 1"):
        read_columns(open_table(path), Columns())


def test_a_group_in_two_splits_is_refused():
    columns = {"confidence": [0.5] * 3, "correct": [1] * 3, "image": ["a", "b", "a"]}
    check_apart(read(columns | {"split": ["cal", "test", "train"]}))
    with pytest.raises(
        ReliabitError, match=r"image a is in cal \(row 1 of the table\) and in test \(row 3 of the table\)"
    ):
        check_apart(read(columns | {"split": ["cal", "test", "test"]}))


def test_questions_under_a_shift_are_left_out_of_a_table_of_reliabit():
    columns = {"conf_maxprob": [0.5, 0.6, 0.7], "accuracy": [1, 0, 1], "shift": ["none", "jpeg_3", "none"]}
    found = read(columns)
    assert found.confidences["conf_maxprob"].tolist() == [0.5, 0.7]
    assert found.notes == ("rows under a shift are left out: 1",)
    with pytest.raises(ReliabitError, match="accuracy is 9 in row 3 of the table"):
        read(columns | {"accuracy": [1, 8, 9]})


@pytest.mark.parametrize("value", [{"a": 1}, [0.5], 10**400, "x\ny"], ids=["mapping", "list", "huge", "lines"])
@pytest.mark.parametrize("name", ["confidence", "correct"])
def test_a_value_of_another_kind_is_shown_in_one_line(name, value):
    row = {"confidence": 0.5, "correct": 1, name: value}
    with pytest.raises(ReliabitError, match=rf"^{name} is .* in row 2 of the table; |^the column {name}") as refused:
        read_columns(open_table([{"confidence": 0.5, "correct": 1}, row]), Columns())
    assert "\n" not in str(refused.value)
