"""The pictures that a page shows: found in the prepared table that a cell was asked from, and made small."""

import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

from reliabit.data.image_decoding import decode_image
from reliabit.data.prepared_table import find_table, load_split
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell

SIDE = 176
"""Pixels of the longer side of a picture."""


@dataclass(frozen=True)
class Asked:
    """What the page shows of a question beside what models said.

    Attributes:
        image: The encoded image file.
        references: The reference answers.
    """

    image: bytes
    references: Sequence[str]


Illustrate: TypeAlias = Callable[[Cell, Sequence[str]], Mapping[str, Asked]]
"""Finds questions of the reported split by their keys (`question_key`); those that are not at hand are left out."""


def without_pictures(_cell: Cell, _keys: Sequence[str]) -> Mapping[str, Asked]:
    """No picture of anything."""
    return {}


def pictures_of(cell: Cell, keys: Sequence[str], *, tables: Path) -> Mapping[str, Asked]:
    """Find questions of the reported split; none where their prepared table is not here, which is not made anew.

    Args:
        cell: What was asked.
        keys: The questions.
        tables: The folder of prepared tables.
    """
    split = cell.config["evaluation"]["reported"]
    try:
        folder = find_table(tables, split=split, sha256=cell.inputs.get(f"data/{split}", ""))
        if folder is None:
            raise ReliabitError(f"{tables} does not hold the table that was asked")
        table = load_split(folder, split)
    except ReliabitError as error:
        sys.stderr.write(f"the report shows no pictures of {cell.place}: {error}\n")
        return {}
    rows = {key: row for row, key in enumerate(map(question_key, table["source"], table["question_id"]))}
    found = {key: table[rows[key]] for key in keys if key in rows}
    return {key: Asked(image=row["image"], references=row["answers"]) for key, row in found.items()}


def question_key(source: str, question_id: str) -> str:
    """What a question is found by.

    >>> question_key("easy_vqa", "test-1")
    'easy_vqa/test-1'
    """
    return f"{source}/{question_id}"


def thumbnail(image: bytes, *, item: str) -> str:
    """A small copy of a picture, as an address of data.

    Args:
        image: The encoded image file.
        item: What a message calls it.
    """
    small = decode_image(image, item=item)
    small.thumbnail((SIDE, SIDE))
    content = BytesIO()
    small.save(content, format="WEBP", quality=72, method=4)
    return f"data:image/webp;base64,{b64encode(content.getvalue()).decode('ascii')}"
