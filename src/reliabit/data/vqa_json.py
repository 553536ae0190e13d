"""VQAv2 and AdVQA from their official files: questions and annotations in a JSON file each, images in a folder.

VQAv2 is Y. Goyal et al., "Making the V in VQA Matter", CVPR 2017; AdVQA, in the same layout, S. Sheng et al.,
"Human-Adversarial Visual Question Answering", NeurIPS 2021.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliabit.data.json_stream import stream_items
from reliabit.data.question_files import answer_texts, folder_images, image_file, listed_file
from reliabit.data.question_index import QuestionIndex
from reliabit.data.question_records import Annotation, Question
from reliabit.data.streamed import FoundImage, StreamedSource
from reliabit.errors import ReliabitError


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
        for entry in stream_items(questions, key="questions"):
            self._add_question(index, entry)
        for entry in stream_items(annotations, key="annotations"):
            self._annotate(index, entry)

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        return folder_images(index, root=self.root)

    def files(self) -> list[Path]:
        return [listed_file(self.listed, n, root=self.root, source=self.source) for n in ("questions", "annotations")]

    def _add_question(self, index: QuestionIndex, entry: Any) -> None:
        try:
            question = Question(
                question_id=str(entry["question_id"]),
                image_id=str(entry["image_id"]),
                image_file=image_file(self._images, entry["image_id"]),
                text=str(entry["question"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            index.bad.add("the question is malformed", question_id=_id_of(entry), detail=_reason(error))
            return
        index.add(question)

    def _annotate(self, index: QuestionIndex, entry: Any) -> None:
        try:
            annotation = Annotation(
                answers=answer_texts(entry["answers"]),
                question_type=str(entry.get("question_type", "")),
                answer_type=str(entry.get("answer_type", "")),
            )
            question_id = str(entry["question_id"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Its question, if there is one, is listed as one without annotation.
            index.bad.add("the annotation is malformed", question_id=_id_of(entry), detail=_reason(error))
            return
        index.annotate(question_id, annotation)

    @property
    def _images(self) -> str:
        if "images" not in self.listed:
            raise ReliabitError(f"data.files of {self.source} lacks images, the path of an image with {{image_id}}")
        return self.listed["images"]


def _id_of(entry: Any) -> str:
    return str(entry.get("question_id", "")) if isinstance(entry, Mapping) else ""


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
