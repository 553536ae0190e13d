"""Questions in chunks: tables cut into pieces that have a name of their own, and the order in which one is batched.

A chunk's name says what it holds, so that work on it can be kept and shared. Questions about one image are batched
together, images and prompts of like length beside: batches then share what can be shared and pad little.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from reliabit.data.image_decoding import image_size
from reliabit.errors import ReliabitError
from reliabit.inference.features import BLOCKS, StateSink
from reliabit.inference.settings import FeatureSettings

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")


@dataclass(frozen=True)
class Chunk:
    """Some questions of a table.

    Attributes:
        questions: A VQA table with the columns `split` and `shift`, one value of each.
        digest: A digest of everything that it holds, images included.
    """

    questions: "Dataset"
    digest: str

    def name(self, identity: str) -> str:
        """The name of what is made of these questions in a way that a digest stands for."""
        return sha256(f"{identity}/{self.digest}".encode()).hexdigest()[:32]


def chunks(questions: "Dataset", *, size: int) -> Iterator[Chunk]:
    """Cut a table into chunks that lie within one split and one shift each, so that other tables cut alike."""
    asked = list(zip(questions["split"], questions["shift"], strict=True))
    start = 0
    while start < len(asked):
        end = start
        while end < len(asked) and end - start < size and asked[end] == asked[start]:
            end += 1
        part = questions.select(range(start, end))
        yield Chunk(questions=part, digest=_digest(part))
        start = end


def _digest(questions: "Dataset") -> str:
    digest = sha256()
    columns = questions[:]
    images = columns.pop("image")
    for image, *others in zip(images, *(columns[name] for name in sorted(columns)), strict=True):
        digest.update(sha256(image).digest())
        digest.update(json.dumps(others).encode())
    return digest.hexdigest()


def in_order(chunk: Chunk) -> tuple[Chunk, list[int]]:
    """A chunk in the order in which it is batched, and the row of the chunk that each question comes from."""
    order = by_length(chunk.questions)
    return replace(chunk, questions=chunk.questions.select(order)), order


def by_length(questions: "Dataset") -> list[int]:
    """Order the rows of a VQA table by image, and images by size and then by their longest question.

    Args:
        questions: The table; as many rows as fit into memory with their images.

    Returns:
        Row numbers, each once. Images of one size that are asked alike stay in the order of the table.
    """
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, image in enumerate(zip(questions["source"], questions["image_id"], strict=True)):
        rows_of.setdefault(image, []).append(row)
    longest = [len(question) for question in questions["question"]]
    firsts = questions.select([rows[0] for rows in rows_of.values()])
    sizes = [_size(image) for image in firsts["image"]]
    keyed = [
        (size, max(longest[row] for row in rows), rows) for size, rows in zip(sizes, rows_of.values(), strict=True)
    ]
    return [row for _, _, rows in sorted(keyed, key=lambda image: image[:2]) for row in rows]


def _size(image: bytes) -> tuple[int, int]:
    """Pixels and width of an encoded image, from its header; zeros where it is damaged, which encoding reports."""
    try:
        width, height = image_size(image, item="a question")
    except ReliabitError:
        return 0, 0
    return width * height, width


def restored(values: Sequence[T], order: Sequence[int]) -> list[T]:
    """Put what came in some order of rows back into the order of the table.

    Args:
        values: One for each row number of `order`.
        order: The row that each is of.

    >>> restored(["c", "a", "b"], [2, 0, 1])
    ['a', 'b', 'c']
    """
    return [values[place] for place in np.argsort(order)]


class InTableOrder:
    """Takes states in another order than that of the table, and gives them on in that of the table.

    Args:
        onward: Takes them in the order of the table, once all have come.
        order: The rows of the table in the order in which their states will come.
    """

    def __init__(self, onward: StateSink, order: Sequence[int]) -> None:
        self.onward = onward
        self.order = order
        self._kept: list[Mapping[str, npt.NDArray[Any]]] = []

    @property
    def settings(self) -> FeatureSettings:
        """Which states."""
        return self.onward.settings

    def append(self, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the states of the next questions; see `StateSink`."""
        self._kept.append(blocks)
        if sum(len(kept[BLOCKS[0]]) for kept in self._kept) == len(self.order):
            places = np.argsort(self.order)
            self.onward.append({name: np.concatenate([kept[name] for kept in self._kept])[places] for name in BLOCKS})
