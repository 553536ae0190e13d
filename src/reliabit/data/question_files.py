"""What question files have in common: their image folder, and the texts of their answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from reliabit.data.question_index import QuestionIndex
from reliabit.data.streamed import FoundImage
from reliabit.errors import ReliabitError


def listed_file(files: Mapping[str, str], name: str, *, root: Path, source: str) -> Path:
    """A file that `data.files` names.

    Raises:
        ReliabitError: It is not named, or not there.
    """
    if name not in files:
        raise ReliabitError(f"data.files of {source} lacks {name}; it has {', '.join(files) or 'nothing'}")
    path = root / files[name]
    if not path.is_file():
        raise ReliabitError(f"{source}: {path} does not exist; put it there, or set data.root or data.files.{name}")
    return path


def image_file(pattern: str, image_id: int | str) -> str:
    """The file of an image, relative to the set's folder.

    Args:
        pattern: The path with `{image_id}` in it, which may be formatted as a number.
        image_id: The id.

    Raises:
        ValueError: The pattern takes numbers and the id is none, or the path would leave the folder.

    >>> image_file("val2014/COCO_val2014_{image_id:012d}.jpg", 42)
    'val2014/COCO_val2014_000000000042.jpg'
    >>> image_file("val/{image_id}", "VizWiz_val_00000000.jpg")
    'val/VizWiz_val_00000000.jpg'
    """
    name = pattern.format(image_id=image_id)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the image path {name!r} leads out of the set's folder")
    return name


def answer_texts(answers: Any) -> list[str]:
    """The texts of a list of answers, which are texts themselves or have one each under `answer`.

    Answers are told apart by their place in the list alone: VizWiz gives them no ids, and ten that are equal are ten.

    Raises:
        ValueError: It is no such list.

    >>> answer_texts([{"answer": "cat", "answer_confidence": "yes"}, {"answer": "cat", "answer_confidence": "yes"}])
    ['cat', 'cat']
    >>> answer_texts(["cat", "a cat"])
    ['cat', 'a cat']
    """
    if not isinstance(answers, list):
        raise ValueError("its answers are no list")
    texts = [answer.get("answer") if isinstance(answer, Mapping) else answer for answer in answers]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("one of its answers has no text")
    return [str(text) for text in texts]


def folder_images(index: QuestionIndex, *, root: Path) -> Iterator[FoundImage]:
    """The images that an index has placed, from the files that it knows them by."""
    for image_id, file in index.placed_images():
        try:
            yield FoundImage(image_id, (root / file).read_bytes())
        except FileNotFoundError:
            yield FoundImage(image_id, None, problem="its image is missing", detail=file)
        except OSError as error:
            yield FoundImage(image_id, None, problem="its image cannot be read", detail=f"{file}: {error.strerror}")
