"""VQAv2 and AdVQA from their official files: questions and annotations in a JSON file each, images in a folder.

VQAv2 is Y. Goyal et al., "Making the V in VQA Matter", CVPR 2017; AdVQA, in the same layout, S. Sheng et al.,
"Human-Adversarial Visual Question Answering", NeurIPS 2021.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reliabit.data._json_stream import stream_items
from reliabit.data.question_files import OfficialReader, answer_texts, image_file, optional_text, plain_id, plain_text
from reliabit.data.question_index import Annotation, Question, QuestionIndex
from reliabit.data.sources import SOURCES
from reliabit.data.streamed import StreamedSource


class VQAJson(OfficialReader):
    """The official layout of VQAv2: `questions` and `annotations`, a file each, and `images`."""

    def fill(self, index: QuestionIndex) -> None:
        questions, annotations = self.files()
        pattern = self.image_pattern()
        for entry in stream_items(questions, key="questions"):
            _add_question(index, entry, pattern=pattern)
        for entry in stream_items(annotations, key="annotations"):
            _annotate(index, entry)

    def files(self) -> list[Path]:
        return [self.listed_file(name) for name in ("questions", "annotations")]


@SOURCES.register("vqav2", "advqa")
class VQAv2(StreamedSource):
    """VQAv2, or AdVQA."""

    official = VQAJson


def _add_question(index: QuestionIndex, entry: Any, *, pattern: str) -> None:
    try:
        image_id = plain_id(entry["image_id"], what="image_id")
        question = Question(
            question_id=str(plain_id(entry["question_id"], what="question_id")),
            image_id=str(image_id),
            image_file=image_file(pattern, image_id),
            text=plain_text(entry["question"], what="question"),
        )
    except (KeyError, TypeError, ValueError) as error:
        index.bad.add("the question is malformed", question_id=_id_of(entry), detail=_reason(error))
        return
    index.add(question)


def _annotate(index: QuestionIndex, entry: Any) -> None:
    try:
        question_id = str(plain_id(entry["question_id"], what="question_id"))
        annotation = Annotation(
            answers=answer_texts(entry["answers"]),
            question_type=optional_text(entry.get("question_type"), what="question_type"),
            answer_type=optional_text(entry.get("answer_type"), what="answer_type"),
        )
    except (KeyError, TypeError, ValueError) as error:
        # Its question, if there is one, is listed as one without annotation.
        index.bad.add("the annotation is malformed", question_id=_id_of(entry), detail=_reason(error))
        return
    index.annotate(question_id, annotation)


def _id_of(entry: Any) -> str:
    found = entry.get("question_id") if isinstance(entry, Mapping) else None
    return str(found) if isinstance(found, str | int | float) else ""


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return "it is no object" if isinstance(error, TypeError) else str(error)
