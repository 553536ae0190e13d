"""The data sources by name, and how the splits of the VQA table are cut from their own parts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reliabit.data import easy_vqa, scenes
from reliabit.data.table import SPLITS, VQARow
from reliabit.errors import ReliabitError


@dataclass(frozen=True)
class Part:
    """A part of a source that the given splits are cut from; `read` yields an image's questions in a row."""

    read: Callable[[], Iterable[VQARow]]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class SourceSpec:
    """What to read and how to split it: everything that decides what a prepared table holds.

    Attributes:
        name: The data source, `easy_vqa` or `scenes`.
        splits: How many images each split gets.
        seed: Seeds the splits, and the images where they are generated.
        root: Where the source's files lie, if not where its package put them.
        questions_per_image: For generated sets.
    """

    name: str
    splits: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    root: str | None = None
    questions_per_image: int | None = None


def _easy_vqa(spec: SourceSpec) -> list[Part]:
    root = Path(spec.root) if spec.root else None
    own_test = ("test",)
    return [
        Part(read=partial(easy_vqa.read_part, "train", root=root), splits=tuple(s for s in SPLITS if s != "test")),
        Part(read=partial(easy_vqa.read_part, "test", root=root), splits=own_test),
    ]


def _scenes(spec: SourceSpec) -> list[Part]:
    read = partial(
        scenes.generate,
        images=sum(spec.splits.values()),
        questions_per_image=spec.questions_per_image or 10,
        seed=spec.seed,
    )
    return [Part(read=read, splits=SPLITS)]


_SOURCES: dict[str, Callable[[SourceSpec], list[Part]]] = {"easy_vqa": _easy_vqa, "scenes": _scenes}


def parts(spec: SourceSpec) -> list[Part]:
    """The parts of a source.

    Raises:
        ReliabitError: No source has that name, or a split is unknown.
    """
    if spec.name not in _SOURCES:
        raise ReliabitError(f"data.name={spec.name} is not a data source; choose one of {', '.join(_SOURCES)}")
    for split in spec.splits:
        if split not in SPLITS:
            raise ReliabitError(f"data.splits.{split} is not a split; choose among {', '.join(SPLITS)}")
    return _SOURCES[spec.name](spec)
