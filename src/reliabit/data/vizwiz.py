"""VizWiz from its official files: one JSON list a part, images in a folder.

D. Gurari et al., "VizWiz Grand Challenge: Answering Visual Questions from Blind People", CVPR 2018. Questions have no
ids, so the name of the image, of which each question has its own, serves as both. Answers have no ids either. A
question that cannot be answered from its image says so under `answerable`, and "unanswerable" is a right answer to it.
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

ANSWERABLE = {0: "unanswerable", 1: "answerable"}
"""The question type that `answerable` stands for."""


@dataclass(frozen=True)
class VizWizJson(StreamedSource):
    """VizWiz in its official layout.

    Attributes:
        source: The name of the set.
        root: Its folder.
        listed: `annotations`, relative to the folder, and `images`, the path of an image with `{image_id}` in it.
    """

    source: str
    root: Path
    listed: Mapping[str, str]

    def fill(self, index: QuestionIndex) -> None:
        [annotations] = self.files()
        for number, entry in enumerate(stream_items(annotations, key=None)):
            self._add(index, entry, number=number)

    def images(self, index: QuestionIndex) -> Iterator[FoundImage]:
        return folder_images(index, root=self.root)

    def files(self) -> list[Path]:
        return [listed_file(self.listed, "annotations", root=self.root, source=self.source)]

    def _add(self, index: QuestionIndex, entry: Any, *, number: int) -> None:
        name = str(entry.get("image", "")) if isinstance(entry, Mapping) else ""
        if not name or "question" not in entry:
            index.bad.add("the question is malformed", question_id=name, detail=f"entry {number} of the file")
            return
        try:
            # The hidden answers of the test part are left out of its file: a question without annotation.
            answers = answer_texts(entry["answers"]) if "answers" in entry else None
            file = image_file(self.listed.get("images", "{image_id}"), name)
        except ValueError as error:
            index.bad.add("the question is malformed", question_id=name, detail=str(error))
            return
        added = index.add(Question(question_id=name, image_id=name, image_file=file, text=capitalized(entry)))
        if added and answers is not None:
            question_type = ANSWERABLE.get(entry.get("answerable"), "")
            index.annotate(name, Annotation(answers, question_type, answer_type=str(entry.get("answer_type", ""))))


def capitalized(entry: Mapping[str, Any]) -> str:
    """The question as lmms-eval puts it: its first letter large, all others small.

    >>> capitalized({"question": "what IS this?"})
    'What is this?'
    """
    return str(entry["question"]).capitalize()
