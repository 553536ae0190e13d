"""Reads the tables of somebody's own folder into an index of questions.

A picture is known by the digest of its bytes, so that copies of it under several names never come into two splits.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from reliabit.data.bad_samples import SHOWN, BadSamples, summary
from reliabit.data.further_columns import further_values
from reliabit.data.own_files.column_names import ColumnNames, FoundColumns, find_columns
from reliabit.data.own_files.folders import find_tables, has_nested_metadata, meant_split, split_names
from reliabit.data.own_files.rows import (
    Picture,
    UnusableError,
    answers_of,
    bytes_of,
    checked_picture,
    counted_answers,
    picture_id,
    read_picture,
    text_of,
)
from reliabit.data.own_files.tables import TextTable, UserTable
from reliabit.data.question_files import FoundImage, QuestionReader, plain_id
from reliabit.data.question_index import Annotation, Question, QuestionIndex, open_index
from reliabit.data.sources import SPLITS
from reliabit.data.table import answer_type
from reliabit.errors import ReliabitError
from reliabit.progress import counted
from reliabit.settings import choice

DRAWN_FROM = 200
"""From so many pictures on they are cut: 30 % of them are 60 in `cal`, and 59 right answers certify a risk of 5 %."""

CHECKED = 1000
"""Up to so many rows are checked before a run begins."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:(//|[^/\\])", re.IGNORECASE)

_Row: TypeAlias = tuple[UserTable, FoundColumns, str, Mapping[str, Any]]


@dataclass
class FolderOptions:
    """`data.options` of `data=folder`.

    Attributes:
        agreement: Of several answers to a question, `annotators`: each counts by how many gave it, as VQA accuracy has
            it; `any`: each is as right as another.
        outside_root: Whether pictures may lie outside of the folder.
        drawn_from: Of fewer pictures all are `test`, unless `data.splits` says otherwise.
    """

    agreement: str = choice("annotators", "any", default="annotators")
    outside_root: bool = False
    drawn_from: int = DRAWN_FROM


@dataclass(frozen=True)
class FolderReader(QuestionReader):
    """Reads the tables of a folder.

    Attributes:
        columns: Which columns are given.
        options: See `FolderOptions`.
    """

    columns: ColumnNames = field(default_factory=ColumnNames)
    options: FolderOptions = field(default_factory=FolderOptions)
    _known: dict[Path, Picture | UnusableError] = field(default_factory=dict, init=False)
    _split_of: dict[str, str] = field(default_factory=dict, init=False)
    _places: dict[str, str] = field(default_factory=dict, init=False)
    _found: dict[str, str] = field(default_factory=dict, init=False)
    _answers: Counter[int] = field(default_factory=Counter, init=False)

    @cached_property
    def tables(self) -> list[UserTable]:
        """What there is to read."""
        return find_tables(self.root)

    @property
    def folder(self) -> Path:
        """The folder that pictures have to lie in."""
        return self.root.parent if self.root.is_file() else self.root

    def files(self) -> list[Path]:
        return [path for table in self.tables for path in table.files()]

    def read_images(self) -> list[Path]:
        return sorted(self._known)

    def check(self) -> None:
        """Check that there is a table, and the columns of those that are texts: others take `datasets` to open."""
        for table in self._text_tables():
            self._columns_of(table)

    def check_rows(self) -> None:
        """Check every row of small tables of texts, before anything heavy is imported.

        Raises:
            ReliabitError: Some cannot be used; of many the list is written when all are read.
        """
        rows = [
            (table, self._columns_of(table), place, row)
            for table in self._text_tables()
            for place, row in islice(table.texts(), CHECKED + 1)
        ]
        if len(rows) > CHECKED:
            return
        bad = BadSamples(StringIO())
        with open_index(Path(":memory:"), bad=bad) as index:
            self._fill(index, rows)
        if 0 < sum(bad.counts.values()) <= SHOWN:
            raise ReliabitError(
                f"{self.source}: {summary(bad.by_problem())}; {'; '.join(bad.first)}; repair the table, or set "
                "data.on_bad_sample=skip to go on without them"
            )

    def _text_tables(self) -> list[TextTable]:
        if self.root.is_dir() and has_nested_metadata(self.root):
            return []
        return [table for table in self.tables if isinstance(table, TextTable)]

    def told(self) -> list[str]:
        """What was read of where, for the preview."""
        read = []
        for columns in dict.fromkeys(self._found.values()):
            first, *others = (place for place, found in self._found.items() if found == columns)
            read.append(f"{first}{f' and {len(others)} more' if others else ''}: {columns}")
        counts = ", ".join(f"{number} ({count} questions)" for number, count in sorted(self._answers.items()))
        return [*read, f"answers a question: {counts}"]

    def splits(self) -> dict[str, list[str]]:
        """The pictures of each split that the data names; empty where it names none.

        Raises:
            ReliabitError: It names splits, and none of them reports.
        """
        if not self._split_of:
            return {}
        meant = split_names(sorted(set(self._split_of.values())))
        found: dict[str, list[str]] = {split: [] for split in SPLITS if split in meant.values()}
        for image_id, name in self._split_of.items():
            found[meant[name]].append(image_id)
        if "test" not in found:
            raise ReliabitError(
                f"{self.source}: the data has the splits {', '.join(meant)}, and no test, which reports; call one of "
                f"them test, or have splits drawn (data.columns.split=none)"
            )
        return found

    def named_splits(self) -> str:
        """Which name of the data stands for which split, as words."""
        meant = split_names(sorted(set(self._split_of.values())))
        return ", ".join(name if name == split else f"{name} is {split}" for name, split in meant.items())

    def fill(self, index: QuestionIndex) -> None:
        self._fill(index, counted(self._rows(), f"reading {self.source}", unit="questions"))

    def _fill(self, index: QuestionIndex, rows: Iterable[_Row]) -> None:
        kinds: dict[type, str] = {}
        for number, (table, columns, place, row) in enumerate(rows, start=1):
            known = str(number)
            try:
                known = self._id_of(row, columns, place=place, number=number)
                self._add(index, row, columns, table=table, place=place, question_id=known, kinds=kinds)
            except UnusableError as error:
                index.bad.add(error.problem, question_id=known, detail=error.detail, place=place)

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        within: set[str] = set()
        for image_id, file in index.placed_images():
            if file:
                yield FoundImage(image_id, Path(file).read_bytes(), file=Path(file), checked=True)
            else:
                within.add(image_id)
        if within:
            for _, columns, _, row in self._rows():
                encoded = bytes_of(row.get(columns.image))
                if encoded is not None and (image_id := picture_id(encoded)) in within:
                    within.discard(image_id)
                    yield FoundImage(image_id, encoded, checked=True)

    def _rows(self) -> Iterator[_Row]:
        for table in self.tables:
            columns = self._columns_of(table)
            self._found[self._called(table)] = columns.text()
            for place, row in table.rows():
                yield table, columns, place, row

    def _called(self, table: UserTable) -> str:
        return str(table.path.relative_to(self.folder.parent) if self.folder.name else table.path)

    def _columns_of(self, table: UserTable) -> FoundColumns:
        return find_columns(table.columns(), self.columns, place=str(table.path))

    def _id_of(self, row: Mapping[str, Any], columns: FoundColumns, *, place: str, number: int) -> str:
        if columns.id is None:
            return str(number)
        try:
            found = str(plain_id(row.get(columns.id), what=columns.id))
        except ValueError as error:
            raise UnusableError("the question id cannot be used", str(error)) from error
        first = self._places.setdefault(found, place)
        if first != place:
            raise UnusableError("the question id comes twice", f"{found!r} is that of {first} too")
        return found

    def _add(
        self,
        index: QuestionIndex,
        row: Mapping[str, Any],
        columns: FoundColumns,
        *,
        table: UserTable,
        place: str,
        question_id: str,
        kinds: dict[type, str],
    ) -> None:
        text = text_of(row.get(columns.question), what="question")
        if not text.strip():
            raise UnusableError("the question is empty", f"column {columns.question}")
        answers = answers_of(row, columns, place=place, kinds=kinds)
        kind = "" if columns.type is None else text_of(row.get(columns.type), what="type")
        picture = self._picture(row.get(columns.image), base=table.base, column=columns.image)
        if columns.split is not None or table.split is not None:
            self._note_split(picture, table.split if columns.split is None else row.get(columns.split))
        file = "" if picture.file is None else str(picture.file)
        used = [name for name in (columns.image, columns.question, columns.id, columns.split, columns.type) if name]
        further = further_values(row, read=[*used, *columns.answers])
        index.add(Question(question_id, picture.image_id, image_file=file, text=text, further=further))
        self._answers[len(answers)] += 1
        common, _ = Counter(answers).most_common(1)[0]
        index.annotate(
            question_id,
            Annotation(
                answers=counted_answers(answers, agreement=self.options.agreement),
                question_type=kind,
                answer_type=answer_type(common.strip().lower()),
            ),
        )

    def _note_split(self, picture: Picture, name: Any) -> None:
        named = "" if name is None else str(name).strip()
        split = meant_split(named)
        if split is None:
            raise UnusableError("its split is unknown", repr(named))
        first = self._split_of.setdefault(picture.image_id, named)
        if meant_split(first) != split:
            raise UnusableError("its image is in two splits", f"{first} and {named}")

    def _picture(self, value: Any, *, base: Path, column: str) -> Picture:
        encoded = bytes_of(value)
        if encoded is not None:
            return checked_picture(encoded, file=None)
        name = value.get("path") if isinstance(value, Mapping) else value
        if name is None or name == "":
            raise UnusableError("its image is not named", f"column {column}")
        if not isinstance(name, str):
            raise UnusableError("its image is neither a path nor bytes", f"column {column} holds {type(name).__name__}")
        path = self._place(name, base=base)
        if path not in self._known:
            try:
                self._known[path] = checked_picture(read_picture(path, name), file=path)
            except UnusableError as error:
                self._known[path] = error
        found = self._known[path]
        if isinstance(found, UnusableError):
            raise found
        return found

    def _place(self, name: str, *, base: Path) -> Path:
        """Where a picture lies, which has to be within the folder, links followed."""
        if _ADDRESS.match(name) and not Path(base, name).exists():
            raise UnusableError("its image is an address and no file", f"{name[:80]}; download it, and name the file")
        if "\0" in name:
            raise UnusableError("its image is neither a path nor bytes", "the path holds a NUL")
        path = Path(base, name)
        if "\\" in name and not path.exists():
            path = Path(base, name.replace("\\", "/"))
        path = path.resolve()
        if not self.options.outside_root and not path.is_relative_to(self.folder.resolve()):
            raise UnusableError(
                "its image lies outside of data.root",
                f"{name}; move it there, or allow others by data.options.outside_root=true",
            )
        return path
