import numpy as np
import pyarrow as pa
import pytest

from confidence.answers import draw_answers, scalars_of
from reliabit.confidence.examples import SCALARS, AnswerEvidence, Examples, examples_of
from reliabit.errors import ReliabitError


def columns(**changed):
    return {**scalars_of(np.log([0.9, 0.4]), np.array([1.0, 2.0])), **changed}


def examples(**changed):
    return Examples(**{"columns": columns(), "accuracy": np.array([1.0, 0.3]), "image_keys": ["a/1", "a/2"], **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": {}}, "no scalars"),
        ({"columns": columns(log_prob=np.array([0.1, -1.0]))}, r"log_prob is 0\.1 in row 0; .* \[-inf, 0\]"),
        ({"columns": columns(p_true=np.array([0.5, np.nan]))}, "p_true is nan in row 1"),
        ({"columns": columns(n_tokens=np.array([1.0]))}, r"n_tokens has the shape \(1,\) for 2"),
        ({"accuracy": np.array([1.0, 1.5])}, r"accuracy\[1\] is 1.5"),
        ({"accuracy": np.array([1.0])}, "accuracy has 1 values for 2 answers"),
        ({"image_keys": ["a/1"]}, "image_keys has 1 values"),
        ({"features": {"first": np.zeros((3, 4), np.float16)}}, r"first is float16 of the shape \(3, 4\)"),
        ({"features": {"first": np.zeros((2, 4))}}, "first is float64"),
    ],
)
def test_bad_examples_are_named(changed, message):
    with pytest.raises(ReliabitError, match=message):
        examples(**changed)


def test_rounding_past_one_is_no_error():
    assert len(AnswerEvidence(columns={"p_true": np.array([1 + 1e-12])})) == 1


def test_missing_column_says_what_asks_for_it():
    with pytest.raises(ReliabitError, match="p_true needs the column p_true, .* p_true in confidence.estimators"):
        examples().column("p_true", confidence="p_true")


def test_examples_of_a_predictions_table():
    drawn = draw_answers(5, seed=0)
    table = pa.table(
        {
            **{
                name: values.astype(np.int32) if name == "n_tokens" else values
                for name, values in drawn.columns.items()
            },
            "accuracy": drawn.accuracy,
            "source": ["scenes"] * 5,
            "image_id": list("vwxyz"),
            "p_true": [0.5] * 5,
            "semantic_entropy": [None, 0.1, 0.1, 0.1, 0.1],
        }
    )
    read = examples_of(table, features=drawn.features)
    assert list(read.columns) == [*SCALARS, "p_true"]
    assert read.image_keys == [f"scenes/{letter}" for letter in "vwxyz"]
    for name in SCALARS:
        assert read.columns[name].dtype == np.float64
        np.testing.assert_array_equal(read.columns[name], drawn.columns[name])
    np.testing.assert_array_equal(read.accuracy, drawn.accuracy)
