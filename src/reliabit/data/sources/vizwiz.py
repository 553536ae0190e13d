"""VizWiz from its official files: one JSON list a part, images in a folder.

D. Gurari et al., "VizWiz Grand Challenge: Answering Visual Questions from Blind People", CVPR 2018. Questions have no
ids, so the name of the image, of which each question has its own, serves as both. Answers have no ids either. A
question that cannot be answered from its image says so under `answerable`, and "unanswerable" is a right answer to it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reliabit.data._json_stream import stream_items
from reliabit.data.question_files import OfficialReader, answer_texts, image_file, optional_text, plain_id, plain_text
from reliabit.data.question_index import Annotation, Question, QuestionIndex
from reliabit.data.sources import SOURCES
from reliabit.data.streamed import StreamedSource

ANSWERABLE = {0: "unanswerable", 1: "answerable"}
"""The question type that `answerable` stands for."""


def capitalized(question: str) -> str:
    """The question as lmms-eval puts it: its first letter large, all others small.

    >>> capitalized("what IS this?")
    'What is this?'
    """
    return question.capitalize()


class VizWizJson(OfficialReader):
    """The official layout of VizWiz: `annotations` and `images`."""

    def fill(self, index: QuestionIndex) -> None:
        [annotations] = self.files()
        pattern = self.image_pattern()
        for number, entry in enumerate(stream_items(annotations, key=None)):
            _add(index, entry, pattern=pattern, number=number)

    def files(self) -> list[Path]:
        return [self.listed_file("annotations")]


@SOURCES.register("vizwiz")
class VizWiz(StreamedSource):
    """VizWiz."""

    official = VizWizJson
    wording = capitalized


def _add(index: QuestionIndex, entry: Any, *, pattern: str, number: int) -> None:
    name = entry.get("image") if isinstance(entry, Mapping) else None
    try:
        question = _question(entry, pattern=pattern)
        annotation = _annotation(entry)
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it lacks its image or its question"
        known = name if isinstance(name, str) else ""
        index.bad.add("the question is malformed", question_id=known, detail=f"entry {number} of the file: {reason}")
        return
    if index.add(question) and annotation is not None:
        index.annotate(question.question_id, annotation)


def _question(entry: Any, *, pattern: str) -> Question:
    name = plain_id(entry["image"], what="image")
    text = capitalized(plain_text(entry["question"], what="question"))
    return Question(question_id=str(name), image_id=str(name), image_file=image_file(pattern, name), text=text)


def _annotation(entry: Mapping[str, Any]) -> Annotation | None:
    """What the file says of a question; nothing for the test part, which leaves out its hidden answers."""
    if "answers" not in entry:
        return None
    return Annotation(
        answers=answer_texts(entry["answers"]),
        question_type=_question_type(entry.get("answerable")),
        answer_type=optional_text(entry.get("answer_type"), what="answer_type"),
    )


def _question_type(answerable: Any) -> str:
    if answerable is None:
        return ""
    if not isinstance(answerable, int | float) or answerable not in ANSWERABLE:
        raise ValueError("its answerable is neither 0 nor 1")
    return ANSWERABLE[int(answerable)]
