"""The predictions table: one row a question; everything after answering is a pure function of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.files import MANIFEST, read_manifest, replacing
from reliabit.inference.hashed_parquet import read_hashed, write_hashed
from reliabit.inference.sound_predictions import sound_predictions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

PREDICTIONS = "predictions.parquet"
"""The name of the file among what a run writes."""

REMEDY = "restore it, or run what wrote it again"

COLUMNS = {
    "source": "string",
    "split": "string",
    "shift": "string",
    "question_id": "string",
    "image_id": "string",
    "question_type": "string",
    "answer_type": "string",
    "question": "string",
    "answer": "string",
    "answer_normalized": "string",
    "accuracy": "double",
    "n_annotators": "int32",
    "log_prob": "double",
    "n_tokens": "int32",
    "truncated": "bool",
    "first_token_prob": "double",
    "min_token_prob": "double",
    "first_token_entropy": "double",
    "first_token_margin": "double",
    "conf_maxprob": "double",
}
"""Column and Arrow type. Confidences are named `conf_<name>`; `accuracy` is the soft VQA accuracy in [0, 1]."""

NO_SHIFT = "none"
"""What the column `shift` holds for questions that are asked as they are."""


def predictions_table(questions: "Dataset", answers: Sequence[dict[str, Any]]) -> "pa.Table":
    """Judge answers by their references and lay both out as a predictions table.

    Args:
        questions: The VQA table that was asked, with the columns `split` and `shift`.
        answers: The fields of `Answer`, one mapping a question, in the same order.

    Raises:
        ReliabitError: The answers are not those of these questions.
    """
    import math

    import pyarrow as pa

    from reliabit.metrics.functional import normalize_answer, vqa_accuracy

    asked = questions.remove_columns("image").to_list()
    if [row["question_id"] for row in asked] != [row["question_id"] for row in answers]:
        raise ReliabitError(f"{len(answers)} answers do not belong to these {len(asked)} questions; answer them again")
    rows = [
        {
            **question,
            **answer,
            "answer_normalized": normalize_answer(answer["answer"]),
            "accuracy": vqa_accuracy(answer["answer"], question["answers"]),
            "n_annotators": len(question["answers"]),
            "conf_maxprob": math.exp(answer["log_prob"]),
        }
        for question, answer in zip(asked, answers, strict=True)
    ]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    )


def with_column(table: "pa.Table", name: str, values: Sequence[float], *, rows: Sequence[int]) -> "pa.Table":
    """Add a column of numbers that some rows have; the others hold null."""
    import pyarrow as pa

    column: list[float | None] = [None] * table.num_rows
    for row, value in zip(rows, values, strict=True):
        column[row] = value
    return table.append_column(name, pa.array(column, type=pa.float64()))


def write_predictions(table: "pa.Table", path: Path) -> None:
    """Write a predictions table as Parquet that carries its own hash; it appears whole or not at all."""
    with replacing(path) as unfinished:
        write_hashed(table, unfinished)


def read_predictions(path: Path, *, expected: str | None = None) -> "pa.Table":
    """Read a predictions table, and check that it is as it was written.

    Tables from elsewhere carry no hash and are taken as they are, unless it is known which one it must be: where a
    stage wrote it, the manifest beside it says so.

    Args:
        path: The file.
        expected: The SHA-256 that the file must have, where it is recorded elsewhere.

    Raises:
        DamagedError: It is not as it was written.
        ReliabitError: The file is missing, is not a predictions table, is empty, or holds what no predictions table
            may; see `sound_predictions`.
    """
    if not path.is_file():
        raise ReliabitError(f"the predictions table {path} does not exist; run task=answer first")
    table = read_hashed(path, expected=expected or _listed(path), remedy=REMEDY)
    return sound_predictions(table, COLUMNS, name=str(path))


def _listed(path: Path) -> str | None:
    """The hash that the manifest of its folder says a file has; `None` where that says nothing of it."""
    if not (path.parent / MANIFEST).is_file():
        return None
    listed: str | None = read_manifest(path.parent, remedy=REMEDY)["files"].get(path.name)
    return listed
