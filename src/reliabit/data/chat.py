"""Image-text chats in the layout of ShareGPT4V, as rows of a VQA table.

The file is a JSON list of `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, ...]}`; image paths
are relative to a folder of the user's choice.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reliabit.data.bad_samples import BadSamples
from reliabit.data.question_files import plain_text
from reliabit.data.table import VQARow, answer_type, checked
from reliabit.errors import ReliabitError

SOURCE = "chat"
IMAGE_MARK = "<image>"


def draw_chats(file: Path, *, images: Path, seed: int, bad: BadSamples) -> Iterator[VQARow]:
    """Draw chats at random, one after another, the last question and answer of each.

    Those that cannot be read, or whose image lies outside the folder `images`, go to `bad`.

    Raises:
        ReliabitError: The file cannot be read.
    """
    chats = read_chats(file)
    for number in np.random.default_rng(seed).permutation(len(chats)).tolist():
        try:
            [row] = checked([_row(chats[number], number, file=file, images=images)])
        except ReliabitError as error:
            image = str(chats[number]["image"])
            bad.add("the chat cannot be used", question_id=f"{number}", image_id=image, detail=str(error))
        else:
            yield row


def read_chats(file: Path) -> list[dict[str, Any]]:
    """The chats of a file that have an image.

    Raises:
        ReliabitError: The file is missing, no JSON list, or has no such chat.
    """
    try:
        items = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReliabitError(f"the chat file {file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(items, list):
        raise ReliabitError(f"the chat file {file} is no JSON list of chats; give a file in the layout of ShareGPT4V")
    chats = [item for item in items if isinstance(item, dict) and item.get("image")]
    if not chats:
        raise ReliabitError(f"the chat file {file} has no chat about an image; calibrate with another one")
    return chats


def check_chats(file: Path, *, images: Path) -> None:
    """Check that a chat file and the folder of its images are there.

    Raises:
        ReliabitError: One is not.
    """
    if not file.is_file():
        raise ReliabitError(f"the chat file {file} does not exist; correct quant.calibration.chat")
    if not images.is_dir():
        raise ReliabitError(f"the folder of chat images {images} does not exist; correct quant.calibration.chat_images")


def last_turn(conversations: Any, *, item: str) -> tuple[str, str]:
    r"""The last question of a conversation and the answer to it, the image's mark left out.

    Raises:
        ReliabitError: There is none.

    Example:
        >>> turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]
        >>> last_turn(turns, item="1")
        ('What is it?', 'A cat.')
    """
    turns = conversations if isinstance(conversations, list) else []
    for question, answer in reversed(list(pairwise(turns))):
        if _speaker(question) == "human" and _speaker(answer) == "gpt":
            asked = str(question.get("value", "")).replace(IMAGE_MARK, "").strip()
            return asked, str(answer.get("value", "")).strip()
    raise ReliabitError(f"{item} has no question followed by an answer; repair the item or remove it")


def image_path(relative: object, *, images: Path, item: str) -> Path:
    """Where an item's image lies.

    Raises:
        ReliabitError: The path leaves the folder, or there is no such file.
    """
    root = images.resolve()
    if not isinstance(relative, str) or Path(relative).is_absolute():
        raise ReliabitError(f"{item} has the image path {relative!r}, which is not relative to {images}")
    try:
        path = (root / relative).resolve()
    # No path holds a NUL or half of a character.
    except ValueError as error:
        raise ReliabitError(f"{item} has the image path {relative!r}, which is none ({error}); repair it") from error
    if not path.is_relative_to(root):
        raise ReliabitError(f"{item} has the image path {relative!r}, which leads out of {images}")
    if not path.is_file():
        raise ReliabitError(f"{item} has the image path {relative!r}, and there is no such file in {images}")
    return path


def _row(chat: dict[str, Any], number: int, *, file: Path, images: Path) -> VQARow:
    item = f"chat {chat.get('id', number)!r} of {file}"
    question, answer = last_turn(chat.get("conversations"), item=item)
    if not answer:
        raise ReliabitError(f"{item} has an empty answer; repair the item or remove it")
    try:
        plain_text(question, what="question")
        plain_text(answer, what="answer")
    except ValueError as error:
        raise ReliabitError(f"{item} cannot be used: {error}; repair the item or remove it") from error
    path = image_path(chat["image"], images=images, item=item)
    try:
        image = path.read_bytes()
    except OSError as error:
        raise ReliabitError(f"{item} has an image that cannot be read ({error.strerror}); repair it") from error
    return VQARow(
        image=image,
        question=question,
        answers=[answer],
        question_id=f"{number}",
        image_id=str(chat["image"]),
        question_type="chat",
        answer_type=answer_type(answer),
        source=SOURCE,
    )


def _speaker(turn: object) -> object:
    return turn.get("from") if isinstance(turn, Mapping) else None
