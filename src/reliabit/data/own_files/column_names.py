"""Which column of somebody's own table holds what: found by its name, or given by `data.columns`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reliabit.errors import ReliabitError

NONE = "none"
"""What `data.columns.split` and the like say to a column that is not to be read."""

NAMES = {
    "image": [
        "image",
        "image_path",
        "image_file",
        "image_name",
        "image_url",
        "image_bytes",
        "img",
        "img_path",
        "file_name",
        "file",
        "file_path",
        "path",
        "picture",
        "picture_path",
        "photo",
    ],
    "question": ["question", "question_text", "prompt", "query", "instruction"],
    "answers": ["answers", "answer", "answer_text", "label", "target", "ground_truth", "reference", "expected"],
    "id": ["id", "question_id", "qid", "uid"],
    "split": ["split", "subset", "partition"],
    "type": ["type", "question_type", "category", "kind"],
}
"""The names by which a column is found; case, spaces, `_` and `-` do not matter."""

NEEDED = ("image", "question", "answers")

_ANNOTATOR = re.compile(r"(answers?|annotators?|annotations?|a)\d+")
"""A column of one annotator among several, without case and signs."""

_HF_FILE = "filename"
"""What a column of file names ends with that `datasets` takes for an image, such as `photo_file_name`."""


@dataclass
class ColumnNames:
    """`data.columns`: the columns of a table of one's own; what is null is found by its name.

    Attributes:
        image: The path of a picture, or its bytes.
        question: The question.
        answers: The answers: one column, or a list of columns, one an annotator.
        id: What the question is known by; rows are counted where there is none.
        split: Which split the row belongs to.
        type: The kind of question, by which reports are sliced.
    """

    image: str | None = None
    question: str | None = None
    answers: Any = None
    id: str | None = None
    split: str | None = None
    type: str | None = None

    def given(self) -> dict[str, list[str]]:
        """What is set, each as a list.

        >>> ColumnNames(answers=["a1", "a2"], split="part").given()
        {'answers': ['a1', 'a2'], 'split': ['part']}
        """
        values = {role: value for role, value in vars(self).items() if value is not None}
        return {role: list(value) if isinstance(value, list) else [value] for role, value in values.items()}

    def check(self, key: str) -> None:
        """Check that answers are one name or several.

        Raises:
            ReliabitError: They are something else.
        """
        names = self.given().get("answers", [""])
        if not names or not all(isinstance(name, str) for name in names):
            raise ReliabitError(f"{key}.answers={self.answers} is no column; write one name, or several as [a1,a2]")


@dataclass(frozen=True)
class FoundColumns:
    """The columns that hold what is asked; `None` and empty names stand for those that are not there."""

    image: str
    question: str
    answers: tuple[str, ...]
    id: str | None = None
    split: str | None = None
    type: str | None = None

    def text(self) -> str:
        """Where what is read, as words.

        >>> FoundColumns("file_name", "question", ("answer",)).text()
        'image from file_name, question from question, answers from answer; there is no id, split, type'
        """
        values = {role: ", ".join(value) if role == "answers" else value for role, value in vars(self).items()}
        read = ", ".join(f"{role} from {name}" for role, name in values.items() if name)
        lacking = ", ".join(role for role, name in values.items() if not name)
        return f"{read}; there is no {lacking}" if lacking else read


def find_columns(names: Sequence[str], settings: ColumnNames, *, place: str) -> FoundColumns:
    """Find the columns of a table.

    Args:
        names: What its columns are called.
        settings: Which are given.
        place: The table, as messages name it.

    Raises:
        ReliabitError: One that is needed is missing, one that is given is not there, or two could be meant; all of
            these at once.

    >>> find_columns(["Image Path", "Question", "answer_1", "answer_2"], ColumnNames(), place="pets.csv").answers
    ('answer_1', 'answer_2')
    """
    problems: list[str] = []
    given = settings.given()
    found = {role: _found(role, names, given.get(role), problems) for role in NAMES}
    if problems:
        # A name may hold line ends, and a refusal is one line.
        there = ", ".join(" ".join(name.split()) for name in names) or "none"
        raise ReliabitError(f"{place}: {'; '.join(problems)}. Its columns are {there}")
    single = {role: (columns[0] if columns else None) for role, columns in found.items() if role != "answers"}
    return FoundColumns(answers=tuple(found["answers"]), **single)  # type: ignore[arg-type]


def _found(role: str, names: Sequence[str], given: Sequence[str] | None, problems: list[str]) -> list[str]:
    """The columns of one role; what is wrong is added to `problems`."""
    if given is not None:
        if list(given) == [NONE] and role not in NEEDED and NONE not in names:
            return []
        absent = [name for name in given if name not in names]
        if absent:
            problems.append(f"there is no column {', '.join(map(repr, absent))}, which data.columns.{role} names")
        return list(given)
    likely = _likely(role, names)
    if len(likely) > 1:
        either = " and ".join(map(repr, likely))
        others = "" if role in NEEDED else f" (or {NONE})"
        problems.append(f"{either} could both hold the {role}; say which by data.columns.{role}={likely[0]}{others}")
    if not likely and role == "answers":
        numbered = [name for name in names if _ANNOTATOR.fullmatch(_plain(name))]
        if numbered:
            return numbered
    if not likely and role in NEEDED:
        problems.append(f"no column is called like one of {role}; name it by data.columns.{role}=<column>")
    return likely


def _likely(role: str, names: Sequence[str]) -> list[str]:
    known = {_plain(name) for name in NAMES[role]}
    exact = [name for name in names if _plain(name) in known]
    if exact or role != "image":
        return exact
    return [name for name in names if _plain(name).endswith(_HF_FILE)]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
