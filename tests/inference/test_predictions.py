import math

import pyarrow.parquet as pq
import pytest

from reliabit.errors import ReliabitError
from reliabit.inference.predictions import COLUMNS, predictions_table, read_predictions, write_predictions


def answers_to(table, texts):
    return [
        {
            "question_id": row["question_id"],
            "answer": text,
            "log_prob": -0.1 * number,
            "n_tokens": 2,
            "truncated": False,
            "first_token_prob": 0.9,
            "min_token_prob": 0.8,
            "first_token_entropy": 0.1,
            "first_token_margin": 0.7,
        }
        for number, (row, text) in enumerate(zip(table, texts, strict=True))
    ]


def asked(table):
    return table.add_column("split", ["test"] * len(table)).add_column("shift", ["none"] * len(table))


@pytest.fixture
def questions(tables):
    return asked(tables["easy_vqa"]["test"].select(range(3)))


def test_answers_are_judged_after_normalization(questions):
    truth = questions["answers"][0][0]
    table = predictions_table(questions, answers_to(questions, [f"The {truth.upper()}.", "nonsense", "  "]))
    assert table["accuracy"].to_pylist() == [1.0, 0.0, 0.0]
    assert table["answer_normalized"].to_pylist()[0] == truth
    assert table["conf_maxprob"].to_pylist() == pytest.approx([1.0, math.exp(-0.1), math.exp(-0.2)])
    assert table.column_names == list(COLUMNS)


def test_annotators_who_disagree_give_soft_accuracy(questions):
    """Three of ten agree: 0.9 (reliability.md, leave one annotator out)."""
    rows = questions.to_list()
    rows[0]["answers"] = ["dog"] * 3 + ["cat"] * 7
    from datasets import Dataset

    mixed = Dataset.from_list(rows, features=questions.features)
    table = predictions_table(mixed, answers_to(mixed, ["a dog", "x", "y"]))
    assert table["accuracy"].to_pylist()[0] == pytest.approx(0.9)


def test_answers_to_other_questions_are_refused(questions):
    with pytest.raises(ReliabitError, match="do not belong to these 3 questions"):
        predictions_table(questions, answers_to(questions, ["a", "b", "c"])[:2])


def test_a_table_comes_back_as_it_was_written(questions, tmp_path):
    table = predictions_table(questions, answers_to(questions, ["a", "b", "c"]))
    write_predictions(table, tmp_path / "deep" / "predictions.parquet")
    assert read_predictions(tmp_path / "deep" / "predictions.parquet").equals(table)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["predictions.parquet"]


def test_a_failed_write_leaves_the_old_table(questions, tmp_path, monkeypatch):
    table = predictions_table(questions, answers_to(questions, ["a", "b", "c"]))
    path = tmp_path / "predictions.parquet"
    write_predictions(table, path)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_predictions(table.slice(0, 1), path)
    monkeypatch.undo()
    assert read_predictions(path).equals(table)
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_no_predictions_are_refused(questions, tmp_path):
    with pytest.raises(ReliabitError, match="does not exist"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(ReliabitError, match="is not a Parquet file"):
        read_predictions(tmp_path / "text.parquet")
    table = predictions_table(questions, answers_to(questions, ["a", "b", "c"]))
    pq.write_table(table.drop_columns(["accuracy"]), tmp_path / "less.parquet")
    with pytest.raises(ReliabitError, match="it lacks accuracy"):
        read_predictions(tmp_path / "less.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(ReliabitError, match="holds no predictions"):
        read_predictions(tmp_path / "empty.parquet")
