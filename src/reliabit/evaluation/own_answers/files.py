"""Tables of somebody's own answers, wherever they lie: a file, a data frame, an Arrow table, a data set, columns, rows.

A CSV, TSV or JSONL file is read line by line, so that whatever is wrong in it can be named with its line.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError

Values = Any
"""A column: a list, or an array of any kind."""

DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}
"""By the end of a file's name, what may stand between its values; in a CSV whatever its first line has most of."""


@dataclass(frozen=True)
class RawTable:
    """A table as it was found.

    Attributes:
        what: What messages call it.
        names: Its columns.
        read: Columns by name to their values, `(N,)` each; only what is asked for is read.
        lines: For files of lines, the line in which each row begins.
    """

    what: str
    names: Sequence[str]
    read: Callable[[Sequence[str]], Mapping[str, Values]]
    lines: Sequence[int] | None = None

    def place(self, row: int) -> str:
        """Where a row stands, for messages, which start counting at 1.

        >>> RawTable("answers.csv", (), dict, lines=[2, 3]).place(1), RawTable("the table", (), dict).place(1)
        ('line 3 of answers.csv', 'row 2 of the table')
        """
        return f"row {row + 1} of {self.what}" if self.lines is None else f"line {self.lines[row]} of {self.what}"


def open_table(source: Any) -> RawTable:
    """Find the columns of a table.

    Args:
        source: The path of a CSV, TSV, JSONL or Parquet file; or a pandas or polars data frame, an Arrow table, a data
            set of the library `datasets`, a mapping of columns, or a list of rows, each a mapping.

    Raises:
        ReliabitError: It is none of these, or is damaged.

    >>> open_table({"confidence": [0.9], "correct": [1]}).names
    ['confidence', 'correct']
    """
    if isinstance(source, str | Path):
        return _open_file(Path(source))
    if isinstance(source, Mapping):
        return RawTable("the table", list(source), lambda names: {name: source[name] for name in names})
    if hasattr(source, "to_pylist"):
        return _of_arrow(source, what="the table")
    if hasattr(source, "with_format"):
        read = source.with_format("arrow")
        return RawTable(
            "the data set", source.column_names, lambda names: _arrays(read.select_columns(list(names))[:], names)
        )
    if hasattr(source, "columns"):
        return RawTable("the table", [*map(str, source.columns)], lambda names: _arrays(source, names))
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return _of_rows("the table", source)
    raise ReliabitError(
        f"a {type(source).__name__} is no table of answers; give the path of a file, a data frame, an Arrow table, a "
        "data set, a mapping of columns or a list of rows"
    )


def _arrays(table: Any, names: Sequence[str]) -> dict[str, Values]:
    return {name: table[name].to_numpy() for name in names}


def _of_arrow(table: Any, *, what: str) -> RawTable:
    return RawTable(what, table.column_names, lambda names: _arrays(table, names))


def _of_rows(what: str, rows: Sequence[Mapping[str, Any]], lines: Sequence[int] | None = None) -> RawTable:
    """A column that a row does not have is None there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return RawTable(what, names, lambda chosen: {name: [row.get(name) for row in rows] for name in chosen}, lines)


def _open_file(path: Path) -> RawTable:
    kind = path.suffix.lower()
    reading: dict[str, Callable[[Path], RawTable]] = {
        **dict.fromkeys(DELIMITERS, _read_delimited),
        **dict.fromkeys((".jsonl", ".ndjson"), _read_json_lines),
        **dict.fromkeys((".parquet", ".pq"), _open_parquet),
    }
    if not path.is_file():
        raise ReliabitError(f"there is no file {path}; name one of CSV, TSV, JSONL or Parquet")
    if kind not in reading:
        raise ReliabitError(f"{path} ends in {kind or 'nothing'}; name a file that ends in {', '.join(reading)}")
    try:
        return reading[kind](path)
    except UnicodeDecodeError as error:
        raise ReliabitError(f"{path} is not UTF-8 (byte {error.start}); save it in that encoding") from error
    except OSError as error:
        raise ReliabitError(f"{path} cannot be read ({error.strerror or error})") from error


def _read_delimited(path: Path) -> RawTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        allowed = DELIMITERS[path.suffix.lower()]
        first = file.readline()
        file.seek(0)
        records = _records(path, csv.reader(file, delimiter=max(allowed, key=first.count), strict=True))
        _, header = next(records, (0, []))
        lines, rows = [], []
        for line, record in records:
            if len(record) != len(header):
                raise ReliabitError(
                    f"line {line} of {path} has {len(record)} values and its first line {len(header)}; "
                    "quote what holds a delimiter or a line break"
                )
            lines.append(line)
            rows.append(record)
    names = [name.strip() for name in header]
    for name in names:
        if names.count(name) > 1:
            raise ReliabitError(f"line 1 of {path} has two columns {name!r}; rename one of them")
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [[] for _ in names], strict=True))
    return RawTable(str(path), names, lambda chosen: {name: columns[name] for name in chosen}, lines)


def _records(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV with the lines they begin in, empty lines left out."""
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise ReliabitError(f"line {line} of {path} is no CSV ({error}); quote values as CSV does") from error
        if record is None:
            return
        if record:
            yield line, record


def _read_json_lines(path: Path) -> RawTable:
    lines, rows = [], []
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ReliabitError(f"line {line} of {path} is no JSON ({error}); give one object a line") from error
            if not isinstance(row, dict):
                raise ReliabitError(f"line {line} of {path} is no JSON object; give one object a line")
            lines.append(line)
            rows.append(row)
    return _of_rows(str(path), rows, lines)


def _open_parquet(path: Path) -> RawTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(names: Sequence[str]) -> dict[str, Values]:
        try:
            return _arrays(pq.read_table(path, columns=list(names)), names)
        except pa.ArrowException as error:
            raise _damaged(path, error) from error

    try:
        return RawTable(str(path), pq.read_schema(path).names, read)
    except pa.ArrowException as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ReliabitError:
    return ReliabitError(f"{path} is no whole Parquet file ({str(error).splitlines()[0]}); write it again")
