"""Somebody's own pictures and questions: a folder with a table, an image folder with metadata, or a saved data set.

docs/own_data.md says what goes where.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from reliabit.data.bad_samples import FAIL
from reliabit.data.own_files.reader import FolderOptions, FolderReader
from reliabit.data.question_index import QuestionIndex
from reliabit.data.sources import SOURCES
from reliabit.data.splits import ordered_splits, split_by_image
from reliabit.data.streamed import StreamedSource
from reliabit.errors import ReliabitError

SHARES = {"dev": 0.3, "val": 0.1, "cal": 0.3, "test": 0.3}
"""How pictures are cut where nothing says otherwise; `conf/data/folder.yaml` has the same."""


@SOURCES.register("folder")
class Folder(StreamedSource):
    """The pictures and questions of a folder."""

    options_schema = FolderOptions
    called_by_root = True
    decides_splits = True
    _undrawn = False

    @cached_property
    def _reader(self) -> "FolderReader":
        data = self.data
        if data.root is None:
            raise ReliabitError(
                "data.root is null; name the folder of your pictures and questions, data.root=pets (docs/own_data.md)"
            )
        if "://" in data.root:
            raise ReliabitError(f"data.root={data.root} is an address; download it, and name the folder")
        root = Path(data.root).expanduser()
        return FolderReader(data.called(), root, data.files, columns=data.columns, options=self.options)

    def reader(self) -> "FolderReader":
        return self._reader

    def check_files(self) -> None:
        """Check that there is a table, and its columns; small ones row by row, unless bad rows are left out."""
        super().check_files()
        if self.data.on_bad_sample == FAIL:
            replace(self._reader).check_rows()

    def _drawn_splits(self, index: QuestionIndex) -> dict[str, list[str]]:
        data, images, given = self.data, set(self._image_ids(index)), self._reader.splits()
        if given:
            listed = {split: [image for image in of if image in images] for split, of in given.items()}
            return ordered_splits(
                {name: of for name, of in listed.items() if of and data.splits.get(name)}, seed=data.seed
            )
        if data.splits == SHARES and len(images) < self.options.drawn_from:
            self._undrawn = True
            return split_by_image(images, sizes={"test": len(images)}, seed=data.seed)
        return super()._drawn_splits(index)

    def _told(self) -> list[str]:
        told = self._reader.told()
        if self._reader.splits():
            return [*told, f"splits: as the data says ({self._reader.named_splits()})"]
        if self._undrawn:
            return [*told, f"splits: all of it is test, as splits are drawn from {self.options.drawn_from} pictures on"]
        return [*told, "splits: drawn by picture"]
