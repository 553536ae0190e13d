"""What a row of somebody's own table says: its texts, its answers, its picture; or why it cannot be used."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.data.image_decoding import decode_image
from reliabit.data.own_files.column_names import FoundColumns
from reliabit.data.question_files import plain_text
from reliabit.errors import ReliabitError

ANNOTATORS = 10
"""So many answers VQA accuracy expects; of fewer each is repeated equally often until there are at least as many."""


class UnusableError(ValueError):
    """A row that cannot be used: what is wrong, in the same words for all of the kind, and what is its own."""

    def __init__(self, problem: str, detail: str = "") -> None:
        """Say what is wrong."""
        super().__init__(problem)
        self.problem, self.detail = problem, detail


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that decodes: its id, and its file where it has one of its own."""

    image_id: str
    file: Path | None


def counted_answers(answers: list[str], *, agreement: str) -> list[str]:
    """Answers as VQA accuracy can count them: at least ten, each repeated equally often.

    >>> counted_answers(["cat", "cat", "dog"], agreement="annotators").count("cat")
    8
    >>> counted_answers(["sofa", "couch", "sofa"], agreement="any") == ["sofa"] * 10 + ["couch"] * 10
    True
    """
    if agreement == "any":
        return [answer for answer in dict.fromkeys(answers) for _ in range(ANNOTATORS)]
    times = -(-ANNOTATORS // len(answers))
    return [answer for answer in answers for _ in range(times)]


def answers_of(row: Mapping[str, Any], columns: FoundColumns, *, place: str, kinds: dict[type, str]) -> list[str]:
    """The answers of a row, not empty; `kinds` are the places of the first list and the first single answer."""
    values = [row.get(name) for name in columns.answers]
    if len(values) == 1:
        value = _unpacked(values[0])
        if value is not None:
            kind = list if isinstance(value, list) else str
            kinds.setdefault(kind, place)
            if len(kinds) > 1:
                lists, single = kinds[list], kinds[str]
                raise UnusableError(
                    "its answers are mixed", f"{lists} has a list and {single} one answer; write all in one way"
                )
        values = value if isinstance(value, list) else [value]
    texts = [_answer(value) for value in values]
    answers = [text for text in texts if text]
    if not answers:
        raise UnusableError("the question has no answers", f"column {', '.join(columns.answers)}")
    return answers


def _unpacked(value: Any) -> Any:
    """A list that is written as text, as in a CSV, `["a", "b"]`; all else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise UnusableError(
            "its answers look like a list and are none", f'{value[:60]}; write them like ["yes", "no"]'
        ) from None


def _answer(value: Any) -> str:
    """An answer as text; nothing where an annotator gave none."""
    found = value.get("answer") if isinstance(value, Mapping) else value
    if found is None:
        return ""
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(int(found)) if float(found).is_integer() else str(found)
    return text_of(found, what="answer").strip()


def text_of(value: Any, *, what: str) -> str:
    """A cell that holds a text; nothing is an empty one."""
    try:
        return "" if value is None else plain_text(value, what=what)
    except ValueError as error:
        raise UnusableError(f"the {what} is no text", str(error)) from error


def bytes_of(value: Any) -> bytes | None:
    """The bytes of a picture that are in the cell itself."""
    found = value.get("bytes") if isinstance(value, Mapping) else value
    return bytes(found) if isinstance(found, bytes | bytearray | memoryview) else None


def read_picture(path: Path, name: str) -> bytes:
    """The bytes of a file; `name` is what the table calls it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableError("its image is missing", name) from None
    except OSError as error:
        raise UnusableError("its image cannot be read", f"{name}: {error.strerror}") from error


def checked_picture(encoded: bytes, *, file: Path | None) -> Picture:
    """A picture that decodes."""
    image_id = picture_id(encoded)
    try:
        decode_image(encoded, item=str(file.name) if file else f"image {image_id}")
    except ReliabitError as error:
        raise UnusableError("its image does not decode", str(error)) from error
    return Picture(image_id=image_id, file=file)


def picture_id(encoded: bytes) -> str:
    """What a picture is known by: copies have the same."""
    return hashlib.sha256(encoded).hexdigest()[:20]
