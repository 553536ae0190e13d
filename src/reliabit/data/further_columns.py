"""Columns of a source's table that are no part of a question, kept beside a prepared table to slice results by.

The VQA table has one schema whatever the source. What else a source says of its questions, such as a region or an age,
lies in a file of its own, and comes into the predictions of the runs that slice by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError

FURTHER = "columns.parquet"
"""The file within the folder of a prepared table."""

ID = "question_id"

LONGEST = 200
"""Letters of a value that are kept: longer ones are texts, and no slice."""


def further_values(row: Mapping[str, Any], *, read: Iterable[str]) -> dict[str, str]:
    """The columns of a row that hold a text, a number or a truth value, but for those that are read otherwise.

    >>> row = {"question": "a cat?", "region": " north ", "age": 7, "box": [1, 2], "note": None}
    >>> further_values(row, read=["question"])
    {'region': 'north', 'age': '7', 'note': ''}
    """
    known = {*read, ID}
    return {
        str(name): "" if value is None else str(value).strip()[:LONGEST]
        for name, value in row.items()
        if name not in known and (value is None or isinstance(value, str | int | float | bool))
    }


def write_further(rows: Iterable[tuple[str, Mapping[str, str]]], folder: Path) -> Path | None:
    """Write what else is said of some questions, by their ids; nothing where nothing is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = list(rows)
    names = list(dict.fromkeys(name for _, values in said for name in values))
    if not names:
        return None
    columns = {ID: [question_id for question_id, _ in said]}
    columns |= {name: [values.get(name, "") for _, values in said] for name in names}
    text = pa.string()
    path = folder / FURTHER
    pq.write_table(pa.table({name: pa.array(values, text) for name, values in columns.items()}), path)
    return path


def further_names(folder: Path) -> list[str]:
    """The further columns that are kept beside a prepared table."""
    import pyarrow.parquet as pq

    path = folder / FURTHER
    return [name for name in pq.read_schema(path).names if name != ID] if path.is_file() else []


def read_further(folder: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Some further columns: of each the value of each question by its id.

    Raises:
        ReliabitError: One of them is not kept there.
    """
    import pyarrow.parquet as pq

    there = further_names(folder)
    missing = [name for name in names if name not in there]
    if missing:
        raise ReliabitError(f"{folder} keeps no column {', '.join(missing)} (it has {', '.join(there) or 'none'})")
    table = pq.read_table(folder / FURTHER, columns=[ID, *names])
    ids = table[ID].to_pylist()
    return {name: dict(zip(ids, table[name].to_pylist(), strict=True)) for name in names}
