"""Tables that somebody brings: CSV, TSV, JSON Lines, Parquet, an image folder's metadata, a saved `datasets` folder.

CSV, Parquet and saved folders are read by `datasets`, which also says what the splits of an image folder are. Its JSON
reader takes texts that look like dates for dates, so a line of JSON is read by Python's own `json`, which leaves a text
as it is. Tables are passed over twice, so none is held, and nothing is read but local files.
"""

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reliabit.errors import ReliabitError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""What `datasets` calls the table of an image folder."""

SPLITS = {
    "dev": ("train", "training", "dev", "development"),
    "val": ("validation", "valid", "val"),
    "cal": ("calibration", "calib", "cal"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Which names of others stand for which split: what others train on trains the Selector here."""

FEW = 5
"""Lines that a message names."""

_DELIMITERS = ",;\t|"
_SHARD = re.compile(r"(.+)-\d+-of-\d+")


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
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ReliabitError(f"{self.path} line 1: two columns are called {twice[0]!r}; rename one of them")
        return names

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        from datasets import Features, IterableDataset, Value

        names = self.columns()
        with _quiet() as cache:
            # As texts: "007" and "NA" are answers.
            rows = IterableDataset.from_csv(
                str(self.path),
                features=Features(dict.fromkeys(names, Value("string"))),
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

        with self._read(), _quiet() as cache:
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
            with _quiet():
                return load_from_disk(str(self.path)).with_format(None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise ReliabitError(f"{self.path} is no folder that datasets can load ({reason}); save it again") from error


KINDS: Mapping[str, type[UserTable]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".jsonl": JsonLinesTable,
    ".ndjson": JsonLinesTable,
    ".parquet": ParquetTable,
}
"""What reads a file, by its ending."""


def find_tables(root: Path) -> list[UserTable]:
    """The tables of a folder, or the one that is named.

    Raises:
        ReliabitError: There is none, or it is not clear which is meant.
    """
    if root.is_file():
        if root.suffix.lower() not in KINDS:
            raise ReliabitError(f"data.root={root} is no table; it may end in {', '.join(KINDS)}")
        return [_table(root)]
    if not root.is_dir():
        raise ReliabitError(f"data.root={root} does not exist; name a folder, or a table by its file")
    return _saved(root) or _image_folder(root) or _plain_tables(root)


def has_nested_metadata(root: Path) -> bool:
    """Whether tables of an image folder lie in folders of its splits, which takes `datasets` to tell."""
    if any((root / name).is_file() for name in METADATA):
        return False
    return any(path for name in METADATA for path in root.glob(f"*/**/{name}"))


def meant_split(name: str) -> str | None:
    """The split that a name stands for by itself, see `split_names`; `None` where it stands for none.

    >>> meant_split("Validation"), meant_split("fold 1")
    ('val', None)
    """
    return next((split for split, others in SPLITS.items() if name.strip().lower() in others), None)


def split_names(names: Sequence[str]) -> dict[str, str]:
    """The split that each name stands for.

    `dev` beside `train` is what others choose on, which is `val` here, unless there is one of that name as well.

    Raises:
        ReliabitError: One stands for none.

    >>> split_names(["Train", "validation", "test"]), split_names(["train", "dev", "test"])["dev"]
    ({'Train': 'dev', 'validation': 'val', 'test': 'test'}, 'val')
    """
    meant = {name: meant_split(name) for name in names}
    unknown = [name for name, split in meant.items() if split is None]
    if unknown:
        known = "; ".join(", ".join(others) for others in SPLITS.values())
        raise ReliabitError(f"{', '.join(map(repr, unknown[:FEW]))} is no split; known are {known}")
    found = {name: split for name, split in meant.items() if split is not None}
    small = {name: name.strip().lower() for name in names}
    if {"train", "training"} & set(small.values()) and "val" not in found.values():
        found |= {name: "val" for name, plain in small.items() if plain in ("dev", "development")}
    return found


def _table(path: Path, split: str | None = None) -> UserTable:
    return KINDS[path.suffix.lower()](path, split)


def _saved(root: Path) -> list[UserTable]:
    if (root / "dataset_dict.json").is_file():
        try:
            names = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            folders = [root / name for name in names]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReliabitError(f"{root / 'dataset_dict.json'} lists no splits; save the data set again") from error
        return [SavedTable(folder, None if len(folders) == 1 else folder.name) for folder in folders]
    return [SavedTable(root)] if (root / "state.json").is_file() else []


def _image_folder(root: Path) -> list[UserTable]:
    """The metadata of an image folder: beside all images, or in the folders of splits as `datasets` tells them."""
    for name in METADATA:
        if (root / name).is_file():
            return [_table(root / name)]
    if not has_nested_metadata(root):
        return []
    from datasets.data_files import DataFilesDict, get_data_patterns

    with _quiet():
        base = root.absolute().as_posix()
        found = DataFilesDict.from_patterns(get_data_patterns(base), base_path=base)
    tables = [
        (Path(file), str(split)) for split, files in found.items() for file in files if Path(file).name in METADATA
    ]
    return [_table(path, split if len(found) > 1 else None) for path, split in sorted(tables)]


def _plain_tables(root: Path) -> list[UserTable]:
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    found = [sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS) for folder in folders]
    paths = next((tables for tables in found if tables), [])
    if not paths:
        raise ReliabitError(
            f"data.root={root} holds no table; put a file of questions there that ends in {', '.join(KINDS)}, or a "
            f"metadata.csv or metadata.jsonl beside the pictures"
        )
    if len(paths) == 1:
        return [_table(paths[0])]
    named = {path: match[1] if (match := _SHARD.fullmatch(path.stem)) else path.stem for path in paths}
    try:
        split_names(sorted(set(named.values())))
    except ReliabitError as error:
        listed = ", ".join(path.name for path in paths)
        raise ReliabitError(
            f"data.root={root} holds several tables ({listed}); name one of them by data.root={paths[0]}, or call each "
            "by its split, like train.csv and test.csv"
        ) from error
    alone = len(set(named.values())) == 1
    return [_table(path, None if alone else name) for path, name in named.items()]


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
def _quiet() -> Iterator[str]:
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
