"""Tables that somebody brings: CSV, TSV, JSON Lines, Parquet, an image folder's metadata, a saved `datasets` folder.

CSV, Parquet and saved folders are read by `datasets`. Its JSON reader takes texts that look like dates for dates, so a
line of JSON is read by Python's own `json`, which leaves a text as it is. Tables are read twice, none is held, and
nothing is read but local files.
"""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reliabit.errors import ReliabitError

FEW = 5
"""Lines that a message names."""

_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class UserTable(ABC):
    """A table, or one split of one.

    Attributes:
        path: The file, or the folder of a saved data set.
        split: What its place says of the split of its rows, in the user's words; `None` where it says nothing.
    """

    path: Path
    split: str | None = None

    @property
    def base(self) -> Path:
        """The folder that paths of pictures are relative to."""
        return self.path.parent

    def files(self) -> list[Path]:
        """The files that it consists of."""
        return [self.path]

    @abstractmethod
    def columns(self) -> list[str]:
        """The names of its columns, from as little of the file as tells them.

        Raises:
            ReliabitError: The file is not what its name says.
        """

    @abstractmethod
    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Its rows, each with its place in words.

        Raises:
            ReliabitError: The file cannot be read.
        """


class TextTable(UserTable):
    """A table that Python reads by itself, so that it can be tried before anything heavy is imported."""

    @abstractmethod
    def texts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Its rows as `rows` gives them, without importing `datasets`."""


class CsvTable(TextTable):
    """Texts between commas, semicolons, tabs or bars; which of them, the first line tells."""

    def columns(self) -> list[str]:
        _, names = next(self._records(), (1, []))
        if not names:
            raise ReliabitError(f"{self.path} is empty; its first line names the columns")
        # A spreadsheet writes every column that was ever touched.
        names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ReliabitError(f"{self.path} line 1: two columns are called {twice[0]!r}; rename one of them")
        return names

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        from datasets import Features, IterableDataset, Value

        names = self.columns()
        with quiet() as cache:
            # As texts: "007" and "NA" are answers.
            rows = IterableDataset.from_csv(
                str(self.path),
                features=Features(dict.fromkeys(names, Value("string"))),
                names=names,
                header=0,
                cache_dir=cache,
                sep=self._delimiter(),
                encoding="utf-8-sig",
                na_filter=False,
                index_col=False,
            )
            for (place, _), row in zip(self.texts(), rows, strict=True):
                yield place, row

    def texts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        names = self.columns()
        self._check_widths(len(names))
        for line, record in islice(self._records(), 1, None):
            yield f"{self.path.name} line {line}", dict(zip(names, record, strict=True))

    def _check_widths(self, wanted: int) -> None:
        wrong = [(line, len(record)) for line, record in self._records() if len(record) != wanted]
        if wrong:
            listed = ", ".join(f"line {line} has {width}" for line, width in wrong[:FEW])
            raise ReliabitError(
                f"{self.path}: its first line has {wanted} {'column' if wanted == 1 else 'columns'}, and {listed}"
                f"{_more(len(wrong))}; put texts that hold a {_called(self._delimiter())} into double quotes"
            )

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Every record that is no blank line, with the line on which it begins."""
        delimiter, begins = self._delimiter(), 1
        with _decoded(self.path), self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for record in reader:
                    if any("\0" in text for text in record):
                        raise ReliabitError(f"{self.path} line {begins}: it holds a byte 0; save it as UTF-8 text")
                    if record:
                        yield begins, record
                    begins = reader.line_num + 1
            except csv.Error as error:
                raise ReliabitError(
                    f"{self.path} line {begins}: it cannot be read ({error}); look for a double quote left open"
                ) from error

    def _delimiter(self) -> str:
        if self.path.suffix.lower() == ".tsv":
            return "\t"
        with _decoded(self.path), self.path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        return max(_DELIMITERS, key=first.count)


class JsonLinesTable(TextTable):
    """A JSON object a line."""

    def columns(self) -> list[str]:
        _, first = next(self._objects(), (1, {}))
        if not first:
            raise ReliabitError(f"{self.path} is empty; it holds one JSON object a line")
        return list(first)

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return self.texts()

    def texts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for line, row in self._objects():
            yield f"{self.path.name} line {line}", row

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        wrong = 'hold one JSON object a line, like {{"image": "a.png", ...}}'
        with _decoded(self.path), self.path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    found = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise ReliabitError(
                        f"{self.path} line {line}: it is no JSON ({error}); {wrong.format()}"
                    ) from error
                if not isinstance(found, dict):
                    raise ReliabitError(f"{self.path} line {line}: it is no JSON object; {wrong.format()}")
                yield line, found


class ParquetTable(UserTable):
    """A Parquet file, pictures within or beside it."""

    def columns(self) -> list[str]:
        import pyarrow.parquet as pq

        with self._read():
            return list(pq.read_schema(self.path).names)

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        from datasets import IterableDataset

        with self._read(), quiet() as cache:
            yield from _counted(IterableDataset.from_parquet(str(self.path), cache_dir=cache), of=self.path.name)

    @contextmanager
    def _read(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (OSError, ValueError, ArithmeticError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise ReliabitError(f"{self.path} is no Parquet file that can be read ({reason})") from error


class SavedTable(UserTable):
    """A folder that `datasets.Dataset.save_to_disk` wrote."""

    @property
    def base(self) -> Path:
        return self.path

    def files(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if path.suffix in (".arrow", ".json"))

    def columns(self) -> list[str]:
        return list(self._loaded().column_names)

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield from _counted(self._loaded(), of=self.path.name)

    def _loaded(self) -> Any:
        import pyarrow as pa
        from datasets import load_from_disk

        try:
            with quiet():
                return load_from_disk(str(self.path)).with_format(None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise ReliabitError(f"{self.path} is no folder that datasets can load ({reason}); save it again") from error


def _counted(rows: Any, *, of: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of `datasets`, with pictures as they are stored and labels by their names."""
    from datasets import ClassLabel, Image

    features = rows.features or {}
    for column, feature in features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(column, Image(decode=False))
    labels = {column: feature for column, feature in features.items() if isinstance(feature, ClassLabel)}
    for number, row in enumerate(rows, start=1):
        texts = {name: labels[name].int2str(row[name]) for name in labels if row[name] not in (None, -1)}
        yield f"{of} row {number}", {**row, **texts}


@contextmanager
def quiet() -> Iterator[str]:
    """Silence the bars of `datasets` while it reads, and give it a folder that is gone afterwards."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silent = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with TemporaryDirectory() as cache:
            yield cache
    finally:
        if not silent:
            enable_progress_bars()


@contextmanager
def _decoded(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ReliabitError(f"{path} {_undecodable(path)}; save it as UTF-8") from error
    except OSError as error:
        raise ReliabitError(f"{path} cannot be read ({error.strerror})") from error


def _undecodable(path: Path) -> str:
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            if line == 1 and text.startswith((b"\xff\xfe", b"\xfe\xff")):
                return "is UTF-16"
            try:
                text.decode()
            except UnicodeDecodeError as error:
                return f"line {line}: byte 0x{text[error.start]:02x} is not UTF-8"
    return "is not UTF-8"


def _called(delimiter: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}[delimiter]


def _more(count: int) -> str:
    return f" and {count - FEW} more" if count > FEW else ""
