"""Tables of questions cut into chunks that have a name of their own, so that work on them can be kept and shared."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


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
    for row in questions:
        digest.update(sha256(row["image"]).digest())
        digest.update(json.dumps([row[key] for key in sorted(row) if key != "image"]).encode())
    return digest.hexdigest()
