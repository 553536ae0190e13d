"""The data sources: their settings, what each has to do, and the registry in which they are found by name."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reliabit.components import Components
from reliabit.data.bad_samples import FAIL, SKIP
from reliabit.data.own_files.column_names import ColumnNames
from reliabit.errors import ReliabitError
from reliabit.settings import check_template, choice, component, positive, to_settings

SPLITS = ("train", "dev", "val", "cal", "test")
"""What each split is for: `train` the reference models only, `dev` trains a Selector, `val` chooses it,
`cal` certifies a threshold, `test` reports. No two of them share an image."""

_IDENTIFYING = ("name", "splits", "seed", "root", "questions_per_image")
_IF_CHANGED = ("layout", "files", "template", "split_ids", "split_ids_of", "on_bad_sample", "options", "columns")

SOURCES: "Components[type[Source]]" = Components(
    "data source", package="reliabit.data.sources", entry_points="reliabit.sources"
)
"""Every `Source`, by the name that `data.name` gives it."""


@dataclass
class DataConfig:
    """`data`: the questions. Of these settings a prepared table is made, and asked.

    Attributes:
        name: The data source.
        splits: Images of each split; for sets read from files also floats, shares of all of them.
        seed: Seeds the splits and, for generated sets, the images.
        root: The folder of the source's files, where they are not packaged.
        layout: For sets read from files, `official` (JSON and an image folder) or `hub` (Parquet, images within).
        files: For sets read from files, which ones, relative to `root`; see the layout's reader.
        label: What runs and reports call the set; where it is null, its name, or of a folder of one's own that one's.
        columns: For a folder of one's own, its table's columns, where their names do not tell.
        questions_per_image: For generated sets.
        template: What goes around each question of this set, `{question}`; `model.template` goes around that.
        split_ids: By split, a file of the ids that it consists of; null for drawn splits.
        split_ids_of: What they are ids of.
        on_bad_sample: Whether samples that cannot be read end the task, or are listed and left out.
        options: What only this source takes; see its `Source.options_schema`.
        ask: The splits that are asked, and about how many of their images; all where it is null, none where it is 0.
        one_question_an_image: Splits of which one question an image is asked: a certificate takes independent ones.
        shifts: Shifts under which the split `test` is asked again; see `reliabit.data.shifts`.
        shift_images: Images of `test` (and of other data sets) that are asked under each shift; all where it is null.
    """

    name: str = component(SOURCES)
    splits: dict[str, int | float] = field(default_factory=dict)
    seed: int = 0
    root: str | None = None
    layout: str = choice("official", "hub", default="official")
    files: dict[str, str] = field(default_factory=dict)
    template: str = "{question}"
    split_ids: dict[str, str | None] = field(default_factory=dict)
    split_ids_of: str = choice("image", "question", default="image")
    on_bad_sample: str = choice(FAIL, SKIP, default=FAIL)
    label: str | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    questions_per_image: int | None = positive(default=None)
    options: dict[str, Any] = field(default_factory=dict)
    ask: dict[str, int | None] = field(default_factory=dict)
    one_question_an_image: list[str] = field(default_factory=list)
    shifts: list[str] = field(default_factory=list)
    shift_images: int | None = positive(default=None)

    def id_files(self) -> dict[str, str]:
        """The file of ids of each split that has one."""
        return {split: file for split, file in self.split_ids.items() if file is not None}

    def identity(self) -> dict[str, Any]:
        """What decides the content of the prepared table, as plain data: five settings, and of others what is set.

        So the tables of sets that know no more than those five keep their place.

        >>> DataConfig(name="scenes", splits={"test": 2}).identity()
        {'name': 'scenes', 'splits': {'test': 2}, 'seed': 0, 'root': None, 'questions_per_image': None}
        """
        plain = DataConfig(name=self.name)
        # A folder is the same one from wherever a run is started.
        root = None if self.root is None else str(Path(self.root).expanduser().absolute())
        values = vars(self) | {"split_ids": self.id_files(), "root": root}
        changed = [name for name in _IF_CHANGED if values[name] != getattr(plain, name)]
        return {
            name: dict(value) if isinstance(value := values[name], Mapping) else value
            for name in (*_IDENTIFYING, *changed)
        } | ({"columns": self.columns.given()} if "columns" in changed else {})

    def called(self) -> str:
        """What runs and reports call the set.

        >>> DataConfig(name="scenes").called(), DataConfig(name="folder", root="my pets/questions.csv").called()
        ('scenes', 'questions')
        """
        if self.label is not None:
            return self.label
        if self.root is None or "://" in self.root or not SOURCES[self.name].called_by_root:
            return self.name
        return re.sub(r"[^\w.-]+", "_", Path(self.root).expanduser().resolve().stem) or self.name

    def check(self, key: str) -> None:
        """Check what must hold between settings.

        Raises:
            ReliabitError: Names the key and its value.
        """
        SOURCES[self.name].check(self, key)
        for part in ("splits", "ask"):
            for split, images in getattr(self, part).items():
                if images is not None and images < 0:
                    raise ReliabitError(
                        f"{key}.{part}.{split}={images} is negative; give the number of images, 0 for none"
                    )
        for split, images in self.ask.items():
            if images and not self.splits.get(split):
                raise ReliabitError(f"{key}.ask.{split}={images} asks a split that {key}.splits leaves empty")
        check_template(self.template, key=f"{key}.template", fields=("question",))
        self._check_shares(key)
        cut, listed = sorted(split for split, images in self.splits.items() if images), sorted(self.id_files())
        if listed and listed != cut:
            raise ReliabitError(
                f"{key}.split_ids has files for {', '.join(listed)} and {key}.splits has {', '.join(cut)}; give a file "
                f"for each, or set the others of {key}.splits to 0"
            )
        if len(set(self.shifts)) < len(self.shifts):
            raise ReliabitError(f"{key}.shifts={self.shifts} names a shift twice; ask each once")

    def _check_shares(self, key: str) -> None:
        """Splits are numbers of images or shares of them, never both; a share is what is written with a point."""
        shares = [size for size in self.splits.values() if isinstance(size, float)]
        if not shares:
            return
        if not SOURCES[self.name].takes_shares:
            raise ReliabitError(
                f"{key}.splits={self.splits} has shares, and {key}.name={self.name} takes numbers of images"
            )
        if len(shares) < sum(size != 0 for size in self.splits.values()):
            raise ReliabitError(
                f"{key}.splits={self.splits} mixes shares with numbers of images; write 0.5 or 5, not both"
            )
        if sum(shares) > 1 + 1e-9:
            raise ReliabitError(
                f"{key}.splits={self.splits} has shares of more than all images; let them add up to 1 at most"
            )


@dataclass(frozen=True)
class WrittenSplit:
    """How much of a split was written."""

    questions: int
    images: int


@dataclass(frozen=True)
class FileState:
    """What tells that a file has changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState | None":
        """The state that a file is in; `None` where there is none that can be read."""
        if not (os.access(path, os.R_OK) and path.is_file()):
            return None
        found = path.stat()
        return cls(size=found.st_size, mtime_ns=found.st_mtime_ns)


def file_states(paths: Iterable[Path]) -> dict[str, FileState | None]:
    """The states of files, by their paths."""
    return {str(path): FileState.of(path) for path in paths}


@dataclass(frozen=True)
class WrittenTable:
    """What was written of a source, and of what.

    Attributes:
        splits: The size of every split.
        skipped: How many samples were left out, by what is wrong with them.
        files: By path the state of every file that lists questions or ids, and of images that could not be used.
        told: What a preview says of how they were read, a line each.
    """

    splits: Mapping[str, WrittenSplit]
    skipped: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, FileState | None] = field(default_factory=dict)
    told: Sequence[str] = ()


class Source(ABC):
    """A data set. One that fits into memory is an `InMemorySource`, one that does not a `StreamedSource`.

    Attributes:
        takes_shares: Whether splits may be shares of its images, and not only numbers of them.
        called_by_root: Whether runs call the set by its folder, and show a preview of it.
        decides_splits: Whether the data may leave splits out that the settings name.
        options_schema: The dataclass that `data.options` fills, where the source has options of its own.
        data: Its settings.
        options: `data.options` as `options_schema`.
    """

    takes_shares: ClassVar[bool] = False
    called_by_root: ClassVar[bool] = False
    decides_splits: ClassVar[bool] = False
    options_schema: ClassVar[type | None] = None

    def __init__(self, data: DataConfig) -> None:
        """Take settings that were checked."""
        self.data = data
        self.options = self._read_options(data, key="data")

    @classmethod
    def check(cls, data: DataConfig, key: str) -> None:
        """Check the settings that only this source knows.

        Raises:
            ReliabitError: Names the key and its value.
        """
        cls._read_options(data, key=key)

    @abstractmethod
    def check_files(self) -> None:
        """Check that the files that the source is read from are there, without reading them.

        Raises:
            ReliabitError: One is missing, or not named as it should be.
        """

    @abstractmethod
    def write(self, folder: Path, *, bad_samples: Path) -> WrittenTable:
        """Write every split into a folder, as Parquet and where images lie apart as an image store.

        Samples that cannot be used are listed in the file `bad_samples`.

        Raises:
            ReliabitError: The source cannot be read, holds a bad item, or is too small for the splits.
        """

    @classmethod
    def _read_options(cls, data: DataConfig, *, key: str) -> Any:
        return to_settings(cls.options_schema, data.options, key=f"{key}.options", of=f"{key}.name={data.name}")


def find_source(data: DataConfig) -> Source:
    """The source that settings name.

    Raises:
        ReliabitError: There is none of that name, or a split is unknown.
    """
    if data.name not in SOURCES:
        raise ReliabitError(f"data.name={data.name} is not a data source; choose one of {', '.join(SOURCES)}")
    for split in data.splits:
        if split not in SPLITS:
            raise ReliabitError(f"data.splits.{split} is not a split; choose among {', '.join(SPLITS)}")
    return SOURCES[data.name](data)
