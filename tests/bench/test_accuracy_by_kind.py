import json

import pyarrow as pa
import pytest
from accuracy_by_kind import accuracy_by_kind, record


def row(question, shift, accuracy, *, kind="colour", split="test"):
    return {
        "source": "pictures",
        "split": split,
        "shift": shift,
        "question_type": kind,
        "question_id": question,
        "accuracy": accuracy,
    }


ROWS = [
    row("a", "none", 1.0),
    row("b", "none", 0.6),
    row("c", "none", 0.0, kind="count"),
    row("a", "blank_image", 0.0),
    row("b", "blank_image", 0.6),
    row("c", "blank_image", 1.0, kind="count"),
    # Neither asked both ways, nor of test.
    row("d", "none", 1.0),
    row("e", "none", 1.0, split="cal"),
    row("a", "gaussian_noise_3", 1.0),
]


def test_both_accuracies_are_of_the_same_questions():
    found = accuracy_by_kind(pa.Table.from_pylist(ROWS))["pictures"]
    assert found["colour"] == {"questions": 2, "accuracy": 0.8, "blind": 0.3}
    assert found["count"] == {"questions": 1, "accuracy": 0.0, "blind": 1.0}
    assert found["all"] == pytest.approx({"questions": 3, "accuracy": 1.6 / 3, "blind": 1.6 / 3})


def test_without_a_blank_image_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no question of test was asked as it is and under blank_image"):
        accuracy_by_kind(pa.Table.from_pylist(ROWS[:3]))


def test_they_are_recorded_beside_those_of_other_sources(tmp_path):
    training = tmp_path / "training.json"
    training.write_text(json.dumps({"curve": [], "accuracy": {"easy_vqa": {}, "pictures": {"old": {}}}}))
    record({"pictures": {"all": {"questions": 1, "accuracy": 1.0, "blind": 0.5}}}, training)
    said = json.loads(training.read_text())
    assert said == {
        "curve": [],
        "accuracy": {"easy_vqa": {}, "pictures": {"all": {"questions": 1, "accuracy": 1.0, "blind": 0.5}}},
    }
