"""The predictions table: one row a question; everything after answering is a pure function of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.inference.sound_predictions import sound_predictions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

PREDICTIONS = "predictions.parquet"
"""The name of the file among what a run writes."""

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
    """Write a predictions table as Parquet; it appears whole or not at all."""
    import pyarrow.parquet as pq

    with replacing(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


def read_predictions(path: Path) -> "pa.Table":
    """Read a predictions table.

    Raises:
        ReliabitError: The file is missing, is not a predictions table, is empty, or holds what no predictions table
            may; see `sound_predictions`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ReliabitError(f"the predictions table {path} does not exist; run task=answer first")
    try:
        table = pq.read_table(path)
    # Whatever the library raises over a user's file is said of the file.
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{path} is not a Parquet file that can be read ({reason}); answer again") from error
    return sound_predictions(table, COLUMNS, name=str(path))
