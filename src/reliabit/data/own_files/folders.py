"""What a folder that somebody brings consists of: which tables, and which splits their places and names stand for.

What the splits of an image folder are, `datasets` says.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reliabit.data.own_files.tables import FEW, CsvTable, JsonLinesTable, ParquetTable, SavedTable, UserTable, quiet
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

_SHARD = re.compile(r"(.+)-\d+-of-\d+")

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

    with quiet():
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
