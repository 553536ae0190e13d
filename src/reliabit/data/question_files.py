"""What question files have in common: their image folder, and the texts of their answers."""

from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any

from reliabit.data.question_index import QuestionIndex
from reliabit.data.question_records import plain_text
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


def image_pattern(files: Mapping[str, str], *, source: str) -> str:
    """The path of an image that `data.files.images` gives, with `{image_id}` in it.

    Raises:
        ReliabitError: It is not given, or is no such path.

    >>> image_pattern({"images": "val2014/{}.jpg"}, source="vqav2")
    Traceback (most recent call last):
    ...
    reliabit.errors.ReliabitError: data.files.images=val2014/{}.jpg of vqav2 is not the path of an image with ...
    """
    if "images" not in files:
        raise ReliabitError(f"data.files of {source} lacks images, the path of an image with {{image_id}} in it")
    pattern = files["images"]
    if not any(_fits(pattern, image_id) for image_id in (1, "1")):
        raise ReliabitError(
            f"data.files.images={pattern} of {source} is not the path of an image with {{image_id}} in it; type it "
            "like 'data.files.images=\"val/{image_id}.jpg\"', with {image_id:012d} for a number of twelve digits"
        )
    return pattern


def check_image_folder(pattern: str, *, root: Path, source: str) -> None:
    """Check that there is the folder that all images lie in, as far as the pattern names one for all of them.

    Args:
        pattern: The path with `{image_id}` in it; see `image_pattern`.
        root: The folder of the set.
        source: Its name.

    Raises:
        ReliabitError: There is none.
    """
    named = takewhile(lambda part: "{" not in part, PurePosixPath(pattern).parts[:-1])
    folder = root.joinpath(*named)
    if not folder.is_dir():
        raise ReliabitError(
            f"{source}: the folder of images {folder} does not exist; put it there, or set data.root or "
            "data.files.images"
        )


def _fits(pattern: str, image_id: int | str) -> bool:
    """Whether a pattern names the id and nothing else, and takes one of this type."""
    try:
        named = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
        pattern.format(image_id=image_id)
    # Formats nest, so within one stands whatever can be asked of an object.
    except (ValueError, LookupError, AttributeError, TypeError):
        return False
    return named == {"image_id"}


def image_file(pattern: str, image_id: int | str) -> str:
    """The file of an image, relative to the set's folder.

    Args:
        pattern: The path with `{image_id}` in it, which may be formatted as a number; see `image_pattern`.
        image_id: The id.

    Raises:
        ValueError: The pattern takes numbers and the id is none, or the path would leave the folder or is none.

    >>> image_file("val2014/COCO_val2014_{image_id:012d}.jpg", 42)
    'val2014/COCO_val2014_000000000042.jpg'
    >>> image_file("val/{image_id}", "VizWiz_val_00000000.jpg")
    'val/VizWiz_val_00000000.jpg'
    """
    name = pattern.format(image_id=image_id)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the image path {name!r} leads out of the set's folder")
    if "\0" in name:
        raise ValueError(f"the image path {name!r} holds a NUL, which no path may")
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
    return [plain_text(text, what="answer") for text in texts]


def folder_images(index: QuestionIndex, *, root: Path) -> Iterator[FoundImage]:
    """The images that an index has placed, from the files that it knows them by."""
    for image_id, name in index.placed_images():
        file = root / name
        try:
            yield FoundImage(image_id, file.read_bytes(), file=file)
        except FileNotFoundError:
            yield FoundImage(image_id, None, problem="its image is missing", detail=name, file=file)
        except OSError as error:
            detail = f"{name}: {error.strerror}"
            yield FoundImage(image_id, None, problem="its image cannot be read", detail=detail, file=file)
