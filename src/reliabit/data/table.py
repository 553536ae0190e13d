"""The VQA table: the one form in which questions travel from a data source to everything after it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypedDict

from reliabit.data.bad_samples import BadSamples
from reliabit.data.image_decoding import decode_image
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from datasets import Dataset, Features


class VQARow(TypedDict):
    """One question about one image.

    Attributes:
        image: The encoded image file (PNG, JPEG, ...).
        question: The question as it is put to the model.
        answers: One reference answer an annotator, not empty.
        question_id: Unique within the table.
        image_id: Shared by all questions about the same image.
        question_type: The source's own kind of question, such as `color`.
        answer_type: `yes/no`, `number` or `other`, as in VQAv2.
        source: The name of the data source.
    """

    image: bytes
    question: str
    answers: list[str]
    question_id: str
    image_id: str
    question_type: str
    answer_type: str
    source: str


def answer_type(answer: str) -> str:
    """Sort an answer into the three kinds of VQAv2.

    >>> [answer_type(answer) for answer in ("yes", "3", "teal")]
    ['yes/no', 'number', 'other']
    """
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def vqa_features() -> "Features":
    """The fixed schema of the VQA table, as `datasets.Features`; rows hold the image encoded, as raw bytes."""
    # Not needed for --help: it imports datasets.
    from reliabit.data._image_store import table_features

    return table_features()


def checked(rows: Iterable[VQARow], *, bad: BadSamples | None = None) -> Iterator[VQARow]:
    """Pass rows on, and stop at the first that would not be a valid row of a VQA table, or list such rows.

    Each image is decoded once, however many questions it has in a row, unless it does not decode.

    Args:
        rows: The rows.
        bad: Lists what is left out; without it the first bad row is an error.

    Raises:
        ReliabitError: A question without answers, an empty question, a repeated question id or an image that
            does not decode; the message names the item.
    """
    seen: set[str] = set()
    last: bytes | None = None
    for row in rows:
        try:
            _check_text(row, seen)
            if row["image"] is not last:
                decode_image(row["image"], item=_item(row))
                last = row["image"]
        except ReliabitError as error:
            if bad is None:
                raise
            bad.add(
                "it is no valid question", question_id=row["question_id"], image_id=row["image_id"], detail=str(error)
            )
            continue
        yield row


def _check_text(row: VQARow, seen: set[str]) -> None:
    """Check all but the image; `seen` are the ids of the rows before."""
    if not row["question"].strip():
        raise ReliabitError(f"{_item(row)} has no text; give it one or remove it")
    if not row["answers"]:
        raise ReliabitError(f"{_item(row)} has no answers; add at least one reference answer or remove the question")
    if row["question_id"] in seen:
        raise ReliabitError(f"{_item(row)} comes twice; question ids must be unique within a data source")
    seen.add(row["question_id"])


def _item(row: VQARow) -> str:
    return f"question {row['question_id']!r} (image {row['image_id']!r}) of {row['source']}"


def first_images(table: "Dataset", count: int | None) -> "Dataset":
    """Keep the questions of the first `count` images, in table order (all of them where it is `None`).

    Prepared tables hold their images in a seeded random order, so the first ones are a random sample.
    """
    if count is None:
        return table
    kept: dict[str, None] = {}
    for row, image_id in enumerate(table["image_id"]):
        if image_id not in kept and len(kept) == count:
            return table.select(range(row))
        kept[image_id] = None
    return table
