"""VQAv2 and AdVQA from their official files: questions and annotations in a JSON file each, images in a folder.

VQAv2 is Y. Goyal et al., "Making the V in VQA Matter", CVPR 2017; AdVQA, in the same layout, S. Sheng et al.,
"Human-Adversarial Visual Question Answering", NeurIPS 2021.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.data.json_stream import stream_items
from reliabit.data.question_files import answer_texts, folder_images, image_file, image_pattern, listed_file
from reliabit.data.question_index import QuestionIndex
from reliabit.data.question_records import Annotation, Question, optional_text, plain_id, plain_text
from reliabit.data.streamed import FoundImage, StreamedSource


@dataclass(frozen=True)
class VQAJson(StreamedSource):
    """A set in the official layout of VQAv2.

    Attributes:
        source: The name of the set.
        root: Its folder.
        listed: `questions` and `annotations`, relative to the folder, and `images`, the path of an image with
            `{image_id}` in it.
    """

    source: str
    root: Path
    listed: Mapping[str, str]

    def fill(self, index: QuestionIndex) -> None:
        questions, annotations = self.files()
        pattern = image_pattern(self.listed, source=self.source)
        for entry in stream_items(questions, key="questions"):
            _add_question(index, entry, pattern=pattern)
        for entry in stream_items(annotations, key="annotations"):
            _annotate(index, entry)

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        return folder_images(index, root=self.root)

    def files(self) -> list[Path]:
        return [listed_file(self.listed, n, root=self.root, source=self.source) for n in ("questions", "annotations")]


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
