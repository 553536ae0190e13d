"""From a set too large to hold to the splits of a prepared table, in passes over its files."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reliabit.data.bad_samples import judged
from reliabit.data.question_index import QuestionIndex, open_index
from reliabit.data.sources import SourceSpec
from reliabit.data.splits import ordered_splits, read_ids, split_by_image
from reliabit.data.streamed import StreamedSource, WrittenSplit, keep_images, write_rows
from reliabit.errors import ReliabitError

INDEX = ".questions.sqlite"


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


@dataclass(frozen=True)
class WrittenTable:
    """What was written of a set, and of what.

    Attributes:
        splits: The size of every split.
        skipped: How many samples were left out, by what is wrong with them.
        files: By path the state of every file that lists questions or ids, and of images that could not be used.
    """

    splits: Mapping[str, WrittenSplit]
    skipped: Mapping[str, int]
    files: Mapping[str, FileState | None]


def write_streamed(source: StreamedSource, spec: SourceSpec, *, folder: Path, bad_samples: Path) -> WrittenTable:
    """Write every split of a set: its questions as Parquet, its images as an image store.

    Args:
        source: The set.
        spec: How to split it, and what to do about samples that cannot be read.
        folder: Where the files go.
        bad_samples: Where those samples are listed.

    Raises:
        ReliabitError: A file is missing or not in the layout, a sample cannot be read and is not to be skipped, or the
            set is too small for the splits.
    """
    # Before they are read: what changes meanwhile is noticed the next time.
    states = file_states([*source.files(), *map(Path, spec.split_ids.values())])
    with (
        judged(bad_samples, source=spec.name, on_bad_sample=spec.on_bad_sample) as bad,
        open_index(folder / INDEX, bad=bad) as index,
    ):
        source.fill(index)
        index.drop_unanswered()
        splits = _listed_splits(index, spec) if spec.split_ids else _drawn_splits(index, spec)
        index.place(splits)
        keep_images(source, index, splits={name: len(images) for name, images in splits.items()}, folder=folder)
        written = {name: _write_rows(index, name, spec, folder=folder) for name in splits}
    return WrittenTable(splits=written, skipped=bad.by_problem(), files=states | file_states(sorted(bad.files)))


def file_states(paths: Iterable[Path]) -> dict[str, FileState | None]:
    """The state of files, by path."""
    return {str(path): FileState.of(path) for path in paths}


def check_unchanged(states: Mapping[str, FileState | None], *, folder: Path) -> None:
    """Check that the files a table was made of are as they were; those that are gone are not missed.

    Raises:
        ReliabitError: One is not, or an image that could not be used is there now.
    """
    for name, state in states.items():
        now = FileState.of(Path(name))
        if now is not None and now != state:
            raise ReliabitError(f"{name} was changed after {folder} was made of it; delete {folder} to prepare it anew")


def _write_rows(index: QuestionIndex, split: str, spec: SourceSpec, *, folder: Path) -> WrittenSplit:
    path = folder / f"{split}.parquet"
    written = write_rows(index, split, source=spec.name, template=spec.template, path=path)
    if not written.questions:
        raise ReliabitError(
            f"no question of data.splits.{split} of {spec.name} can be used; repair the files or give it more images"
        )
    return written


def _drawn_splits(index: QuestionIndex, spec: SourceSpec) -> dict[str, list[str]]:
    sizes = {name: size for name, size in spec.splits.items() if size}
    if not sizes:
        raise ReliabitError(f"data.splits of {spec.name} is empty; give at least one split an image")
    return split_by_image(_some(index.image_ids(), spec), sizes=sizes, seed=spec.seed)


def _listed_splits(index: QuestionIndex, spec: SourceSpec) -> dict[str, list[str]]:
    listed = {split: read_ids(Path(file)) for split, file in spec.split_ids.items()}
    if spec.split_ids_of == "image":
        known = set(_some(index.image_ids(), spec))
        images = {split: _known(ids, known, index, split=split) for split, ids in listed.items()}
    else:
        images = {split: _images_of(ids, index, split=split) for split, ids in listed.items()}
        index.keep_only(question_id for ids in listed.values() for question_id in ids)
    return ordered_splits(images, seed=spec.seed)


def _known(ids: Iterable[str], known: set[str], index: QuestionIndex, *, split: str) -> list[str]:
    kept = []
    for image_id in ids:
        if image_id in known:
            kept.append(image_id)
        else:
            index.bad.add("the listed image has no question", question_id="", image_id=image_id, detail=split)
    return kept


def _images_of(ids: Iterable[str], index: QuestionIndex, *, split: str) -> list[str]:
    images = []
    for question_id, image_id in index.images_of(ids):
        if image_id is None:
            index.bad.add("the listed question is not there", question_id=question_id, detail=split)
        else:
            images.append(image_id)
    return images


def _some(image_ids: Iterable[str], spec: SourceSpec) -> list[str]:
    found = list(image_ids)
    if not found:
        raise ReliabitError(f"the data source {spec.name} has no questions that can be used in {spec.root}")
    return found
