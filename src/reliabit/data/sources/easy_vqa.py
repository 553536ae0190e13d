"""easy-VQA: the public set that the PyPI package `easy-vqa` ships (V. Zhou, MIT licence).

5 000 images of 64x64 pixels, each with one coloured shape, and 48 248 questions with 13 possible answers, in
the set's own train and test parts. Every question has one ground truth; it is recorded as ten unanimous
annotators, so that the leave-one-out VQA accuracy is defined and is 1 for the truth and 0 otherwise.
"""

import json
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from reliabit.data.bad_samples import FAIL
from reliabit.data.in_memory import InMemorySource, SourcePart
from reliabit.data.question_files import plain_text
from reliabit.data.sources import SOURCES, SPLITS
from reliabit.data.table import VQARow, answer_type
from reliabit.errors import ReliabitError

ANNOTATORS = 10
COLORS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})
SHAPES = frozenset({"circle", "rectangle", "triangle"})


@SOURCES.register("easy_vqa")
class EasyVQA(InMemorySource):
    """The set; `test` is its own test part, and the other splits are cut from its training part."""

    def parts(self) -> list[SourcePart]:
        root = Path(self.data.root) if self.data.root else None
        splits = {"train": tuple(split for split in SPLITS if split != "test"), "test": ("test",)}
        return [
            SourcePart(
                read=partial(read_part, name, root=root, missing=self.data.on_bad_sample),
                splits=cut,
                files=partial(_listed, name, root=root),
            )
            for name, cut in splits.items()
        ]


def _read_image(path: Path) -> bytes:
    if not path.is_file():
        raise ReliabitError(f"easy_vqa: the image {path} is missing; restore it or remove its questions")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReliabitError(f"easy_vqa: the image {path} cannot be read ({error.strerror}); restore it") from error


def _listed(part: str, *, root: Path | None) -> list[Path]:
    return [questions_file(part, root=root)]


def packaged_root() -> Path:
    """The data folder inside the installed package `easy-vqa`, found without importing it."""
    spec = find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise ReliabitError("the package easy-vqa is not installed; run `pip install easy-vqa` or set data.root")
    return Path(spec.origin).parent / "data"


def question_type(question: str, answer: str) -> str:
    """Name what a question is about: `shape`, `color`, or the presence of one of the two.

    >>> question_type("what is the red shape?", "circle"), question_type("is no teal shape present?", "no")
    ('shape', 'color presence')
    """
    if answer in SHAPES:
        return "shape"
    if answer in COLORS:
        return "color"
    words = set(question.rstrip("?").split())
    return "color presence" if words & COLORS else "shape presence"


def questions_file(part: str, *, root: Path | None = None) -> Path:
    """The file that lists the questions of one part of the set; see `read_part`.

    Raises:
        ReliabitError: It is missing.
    """
    found = (root or packaged_root()) / part / "questions.json"
    if not found.is_file():
        raise ReliabitError(f"easy_vqa: {found} does not exist; set data.root to the folder that has {part}/")
    return found


def read_part(part: str, *, root: Path | None = None, missing: str = FAIL) -> Iterator[VQARow]:
    """Read one part of the set, questions of an image together, in the order of the file.

    Args:
        part: `train` or `test`, the set's own division.
        root: The folder that holds both; by default the installed package's.
        missing: Whether an image that is not there ends it, `fail`, or leaves its rows without bytes, `skip`.

    Raises:
        ReliabitError: The questions or an image are missing or damaged.
    """
    listed = questions_file(part, root=root)
    folder = listed.parent
    questions = sorted(_entries(listed), key=lambda entry: entry[2])
    number = 0
    for image, entries in groupby(questions, key=lambda entry: entry[2]):
        try:
            encoded = _read_image(folder / "images" / f"{image}.png")
        except ReliabitError:
            if missing == FAIL:
                raise
            encoded = b""
        for question, answer, _ in entries:
            yield VQARow(
                image=encoded,
                question=question,
                answers=[answer] * ANNOTATORS if answer else [],
                question_id=f"{part}-{number}",
                image_id=f"{part}-{image}",
                question_type=question_type(question, answer),
                answer_type=answer_type(answer),
                source="easy_vqa",
            )
            number += 1


def _entries(file: Path) -> list[tuple[str, str, int]]:
    """The questions of a part: text, answer and the number of the image."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        entries = [(plain_text(text, what="question"), answer, image) for text, answer, image in found]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = "its values are nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ReliabitError(f"easy_vqa: {file} is damaged ({' '.join(reason.split())}); restore it") from error
    for _, answer, image in entries:
        if not isinstance(answer, str) or not isinstance(image, int) or isinstance(image, bool):
            raise ReliabitError(
                f"easy_vqa: {file} is damaged (the answer {answer!r} is no text, or the image {image!r} no number); "
                "restore it"
            )
    return entries
