"""From a set too large to hold to the splits of a prepared table, in passes over its files."""

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


def write_streamed(
    source: StreamedSource, spec: SourceSpec, *, folder: Path, bad_samples: Path
) -> dict[str, WrittenSplit]:
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
    with (
        judged(bad_samples, source=spec.name, on_bad_sample=spec.on_bad_sample) as bad,
        open_index(folder / INDEX, bad=bad) as index,
    ):
        source.fill(index)
        index.drop_unanswered()
        splits = _listed_splits(index, spec) if spec.split_ids else _drawn_splits(index, spec)
        index.place(splits)
        keep_images(source, index, splits={name: len(images) for name, images in splits.items()}, folder=folder)
        written = {
            name: write_rows(index, name, source=spec.name, template=spec.template, path=folder / f"{name}.parquet")
            for name in splits
        }
    empty = [name for name, split in written.items() if not split.questions]
    if empty:
        raise ReliabitError(f"no question of data.splits.{empty[0]} of {spec.name} can be used; see {bad_samples}")
    return written


@dataclass(frozen=True)
class FileState:
    """What tells that a file has changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state that a file is in."""
        found = path.stat()
        return cls(size=found.st_size, mtime_ns=found.st_mtime_ns)


def file_states(source: StreamedSource, spec: SourceSpec) -> dict[str, FileState]:
    """The state of every file that lists questions or ids, by path."""
    return {str(path): FileState.of(path) for path in [*source.files(), *map(Path, spec.split_ids.values())]}


def check_unchanged(states: Mapping[str, FileState], *, folder: Path) -> None:
    """Check that the files a table was made of are as they were; those that are gone are not missed.

    Raises:
        ReliabitError: One is not.
    """
    for name, state in states.items():
        path = Path(name)
        if path.is_file() and FileState.of(path) != state:
            raise ReliabitError(f"{path} was changed after {folder} was made of it; delete {folder} to prepare it anew")


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
        raise ReliabitError(
            f"the data source {spec.name} has no questions that can be used; see the list of bad samples"
        )
    return found
