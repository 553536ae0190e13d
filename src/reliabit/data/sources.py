"""The data sources by name, and how the splits of the VQA table are cut from their own parts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from reliabit.data import easy_vqa, scenes
from reliabit.data.bad_samples import FAIL
from reliabit.data.hub_parquet import HubParquet
from reliabit.data.question_files import check_image_folder, image_pattern
from reliabit.data.streamed import StreamedSource
from reliabit.data.table import SPLITS, VQARow
from reliabit.data.vizwiz import VizWizJson, capitalized
from reliabit.data.vqa_json import VQAJson
from reliabit.errors import ReliabitError


@dataclass(frozen=True)
class Part:
    """A part of a source that the given splits are cut from.

    Attributes:
        read: Yields an image's questions in a row.
        splits: The splits.
        check: Raises where a file that it reads is missing.
    """

    read: Callable[[], Iterable[VQARow]]
    splits: tuple[str, ...]
    check: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True)
class SourceSpec:
    """What to read and how to split it: everything that decides what a prepared table holds.

    Attributes:
        name: The data source.
        splits: How many images each split gets; for sets read from files also floats, shares of all of them.
        seed: Seeds the splits, and the images where they are generated.
        root: Where the source's files lie, if not where its package put them.
        questions_per_image: For generated sets.
        layout: `official` or `hub`, for sets that come in both.
        files: The files of a layout, relative to `root`; see its reader.
        template: What the set puts around each question, `{question}`.
        split_ids: By split, a file of the ids that it consists of.
        split_ids_of: Whether these are ids of an `image` or of a `question`.
        on_bad_sample: `fail` or `skip`.
    """

    name: str
    splits: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    root: str | None = None
    questions_per_image: int | None = None
    layout: str = "official"
    files: Mapping[str, str] = field(default_factory=dict)
    template: str = "{question}"
    split_ids: Mapping[str, str] = field(default_factory=dict)
    split_ids_of: str = "image"
    on_bad_sample: str = FAIL

    def identity(self) -> dict[str, Any]:
        """What decides the content, as plain data: the first five, and whatever of the others is not its default.

        So the tables of sets that know no more than the first five keep their place.

        >>> SourceSpec(name="scenes", splits={"test": 2}).identity()
        {'name': 'scenes', 'splits': {'test': 2}, 'seed': 0, 'root': None, 'questions_per_image': None}
        """
        always, plain = ("name", "splits", "seed", "root", "questions_per_image"), SourceSpec(name=self.name)
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
            if name in always or value != getattr(plain, name)
        }


def _easy_vqa(spec: SourceSpec) -> list[Part]:
    root = Path(spec.root) if spec.root else None
    splits = {"train": tuple(s for s in SPLITS if s != "test"), "test": ("test",)}
    return [
        Part(
            read=partial(easy_vqa.read_part, name, root=root),
            splits=cut,
            check=partial(easy_vqa.questions_file, name, root=root),
        )
        for name, cut in splits.items()
    ]


def _scenes(spec: SourceSpec) -> list[Part]:
    read = partial(
        scenes.generate,
        images=int(sum(spec.splits.values())),
        questions_per_image=spec.questions_per_image or 10,
        seed=spec.seed,
    )
    return [Part(read=read, splits=SPLITS)]


_SOURCES: dict[str, Callable[[SourceSpec], list[Part]]] = {"easy_vqa": _easy_vqa, "scenes": _scenes}


def _streamed(spec: SourceSpec) -> StreamedSource:
    root = Path(spec.root or ".")
    if spec.layout == "hub":
        wording = capitalized if spec.name == "vizwiz" else str
        return HubParquet(source=spec.name, root=root, listed=spec.files, wording=wording)
    official = VizWizJson if spec.name == "vizwiz" else VQAJson
    return official(source=spec.name, root=root, listed=spec.files)


STREAMED = ("vqav2", "advqa", "vizwiz")
"""The sets that are too large to hold; their images lie in files."""


def parts(spec: SourceSpec) -> list[Part]:
    """The parts of a source that fits into memory.

    Raises:
        ReliabitError: No source has that name, or a split is unknown.
    """
    _check(spec)
    return _SOURCES[spec.name](spec)


def streamed(spec: SourceSpec) -> StreamedSource:
    """A source among `STREAMED`.

    Raises:
        ReliabitError: It has no folder, or a split is unknown.
    """
    _check(spec)
    if spec.root is None:
        raise ReliabitError(f"data.root is null; name the folder of {spec.name} (docs/full_size.md says what it holds)")
    return _streamed(spec)


def check_files(spec: SourceSpec) -> None:
    """Check that the files that a source is read from are there, without reading them.

    Raises:
        ReliabitError: One is missing, or the source, a split or a file is not named as it should be.
    """
    if spec.name not in STREAMED:
        wanted = {split for split, images in spec.splits.items() if images}
        for part in (part for part in parts(spec) if wanted & {*part.splits}):
            part.check()
        return
    source = streamed(spec)
    source.files()
    if spec.layout == "official":
        pattern = image_pattern(spec.files, source=spec.name)
        check_image_folder(pattern, root=Path(spec.root or "."), source=spec.name)
    for split, file in spec.split_ids.items():
        if not Path(file).is_file():
            raise ReliabitError(f"data.split_ids.{split}={file} does not exist; correct the path, or set it to null")


def _check(spec: SourceSpec) -> None:
    if spec.name not in _SOURCES and spec.name not in STREAMED:
        known = ", ".join((*_SOURCES, *STREAMED))
        raise ReliabitError(f"data.name={spec.name} is not a data source; choose one of {known}")
    for split in spec.splits:
        if split not in SPLITS:
            raise ReliabitError(f"data.splits.{split} is not a split; choose among {', '.join(SPLITS)}")
