"""The predictions table: one row a question; everything after answering is a pure function of it.

Its Parquet file carries its own SHA-256: any reader of Parquet reads it, and here no byte changes unnoticed. The hash
is one of the whole file with zeros in its place, which is among the metadata at the end. A second entry says that there
is one, so that a damaged name of either does not make the file one that never had a hash.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import MANIFEST, read_manifest, replacing
from reliabit.inference._sound_predictions import sound_predictions
from reliabit.inference.features import BLOCKS, FEATURES, KEY_COLUMNS, feature_writer, keys_of, read_features
from reliabit.inference.settings import FeatureSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from reliabit.inference.answer_store import AnsweredChunk

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

TOLD_BY_ENGINES = {"top_entropy": "double", "seconds": "double"}
"""Columns of answers that an engine gave (`reliabit.engines`), which tells no entropy over all words, and the time."""

NO_SHIFT = "none"
"""What the column `shift` holds for questions that are asked as they are."""

HASH, HASHED = b"reliabit.sha256", b"reliabit.hashed"
_YES = b"1"
_ZEROS = b"0" * 64


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
    told = {name: kind for name, kind in TOLD_BY_ENGINES.items() if answers and name in answers[0]}
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(name, pa.type_for_alias(kind)) for name, kind in (COLUMNS | told).items()])
    )


def gather(stored: "Sequence[AnsweredChunk]") -> "pa.Table":
    """Judge the answers of all chunks, as one predictions table; they are kept as the model gave them."""
    import pyarrow as pa

    return pa.concat_tables([predictions_table(chunk.questions, chunk.answers) for chunk in stored])


def gather_features(
    stored: "Sequence[AnsweredChunk]",
    folder: Path,
    *,
    predictions: "pa.Table",
    settings: FeatureSettings,
    identity: str,
) -> None:
    """Write the features of all chunks as one folder, a chunk at a time."""
    keys = predictions.select(list(KEY_COLUMNS))
    with feature_writer(folder, keys=keys, settings=settings, identity=identity) as writer:
        for chunk in stored:
            blocks = read_features(chunk.folder / FEATURES, predictions=keys_of(chunk.questions))
            writer.append({name: np.asarray(blocks[name]) for name in BLOCKS})


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
        _write_hashed(table, unfinished)


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
    table = _read_hashed(path, expected=expected or _listed(path), remedy=REMEDY)
    return sound_predictions(table, COLUMNS, name=str(path))


def _listed(path: Path) -> str | None:
    """The hash that the manifest of its folder says a file has; `None` where that says nothing of it."""
    if not (path.parent / MANIFEST).is_file():
        return None
    listed: str | None = read_manifest(path.parent, remedy=REMEDY)["files"].get(path.name)
    return listed


def _write_hashed(table: "pa.Table", path: Path) -> None:
    """Write a table with its hash."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({HASHED: _YES, HASH: _ZEROS})
    content = path.read_bytes()
    path.write_bytes(_with_hash(content, hashlib.sha256(content).hexdigest().encode(), instead_of=_ZEROS))


def _read_hashed(path: Path, *, expected: str | None, remedy: str) -> "pa.Table":
    """Read a table, and check it against its hash if it carries one.

    Args:
        path: The file.
        expected: The SHA-256 of the whole file as it is, where that is known from elsewhere.
        remedy: What to do where it is damaged.

    Returns:
        The table; its metadata are those that it was written with.

    Raises:
        DamagedError: It cannot be read, or is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DamagedError(f"{path} differs from its recorded hash", remedy=remedy)
        if not _is_whole(content, pq.read_metadata(pa.BufferReader(content)).metadata or {}):
            raise DamagedError(f"{path} differs from the hash it carries", remedy=remedy)
        # What is read are the bytes that were checked, whatever becomes of the file meanwhile.
        return pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DamagedError(f"{path} is not a Parquet file that can be read ({reason})", remedy=remedy) from error


def _is_whole(content: bytes, metadata: Mapping[bytes, bytes]) -> bool:
    """Whether a file is what its hash says; one that never had a hash is."""
    carried, told = metadata.get(HASH), metadata.get(HASHED)
    if carried is None and told is None:
        return HASH not in content and HASHED not in content
    if carried is None or told != _YES or len(carried) != len(_ZEROS):
        return False
    return hashlib.sha256(_with_hash(content, _ZEROS, instead_of=carried)).hexdigest().encode() == carried


def _with_hash(content: bytes, value: bytes, *, instead_of: bytes) -> bytes:
    """The file with another value behind the name of the hash, which stands last among its metadata."""
    place = content.find(instead_of, content.rfind(HASH))
    return content[:place] + value + content[place + len(value) :]
