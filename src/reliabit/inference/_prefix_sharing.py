"""Packing: the questions about one image in one row, so that the decoder reads the image once for all of them.

A row holds what its prompts have in common (the template's beginning and the image), and after it what each question
adds. A question attends to the common part and to itself, never to its neighbours, and its tokens keep the positions
that they have in a prompt of their own; so every state is that of the plain pass (prefix sharing as in "Hydragen",
arXiv 2402.05099, here by an attention mask). The common part is computed once, stored once and read once a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reliabit.models.encoding import Batch
from reliabit.models.families import Adapter

COMMON, NOWHERE = 0, -1
"""Owners of a token that are no question: the row's common part, and padding."""

LINEAR_PER_WIDTH = 6
"""A decoder layer multiplies about 12 width^2 times a token, and 2 width times for each token that is attended to."""


@dataclass(frozen=True)
class PackedPrompts:
    """The prompts of a batch, in rows; each question has a place in one row, the same columns in all rows.

    Attributes:
        input_ids: `[rows, tokens]`.
        owner: Whose token it is, `[rows, tokens]`: `COMMON`, `NOWHERE`, or 1 and up for the question at a place.
        position_ids: Rotary positions as the family takes them, `[rows, tokens]` or `[axes, rows, tokens]`.
        image_tokens: Where image tokens stand, `[rows, tokens]`, bool.
        question_tokens: Where the questions themselves stand, likewise.
        image_of: The image of each row, `[rows]`.
        row_of: The row of each question, `[questions]`.
        place_of: Its place there, from 0, `[questions]`.
        starts: The first column of each place.
        ends: The column after the last of each place; there the prompt of every question at that place ends.
    """

    input_ids: torch.Tensor
    owner: torch.Tensor
    position_ids: torch.Tensor
    image_tokens: torch.Tensor
    question_tokens: torch.Tensor
    image_of: torch.Tensor
    row_of: torch.Tensor
    place_of: torch.Tensor
    starts: list[int]
    ends: list[int]

    def of_questions(self, values: torch.Tensor) -> torch.Tensor:
        """From `[rows, places, ...]` those of the questions, `[questions, ...]`, in the order of the batch."""
        return values[self.row_of, self.place_of]


@dataclass(frozen=True)
class _Row:
    """Questions of one image by falling length, and how many tokens at the start their prompts have in common."""

    questions: list[int]
    common: int


def pack(batch: Batch, *, model: Any, adapter: Adapter) -> PackedPrompts:
    """Lay out the prompts of a batch so that questions about one image share what they have in common.

    Rows hold as many questions as is cheapest: one each, which is the plain layout, where nothing is to be shared.

    Args:
        batch: Encoded questions, padded on the left.
        model: The model that is to read them.
        adapter: Its family.
    """
    lengths = batch.text["attention_mask"].sum(1).tolist()
    width = int(model.config.get_text_config().hidden_size)
    rows = _cheapest_rows(_groups(batch, lengths), lengths, width=width)
    return _lay_out(batch, rows, lengths, model=model, adapter=adapter)


def _groups(batch: Batch, lengths: Sequence[int]) -> list[_Row]:
    """The questions of each image; a question that shows the image after its own words stays alone."""
    common = _common_tokens(batch, lengths)
    last_image = _up_to_last(batch.image_tokens, lengths)
    together: dict[tuple[int, int], list[int]] = {}
    for question, image in enumerate(batch.image_of.tolist()):
        alone = common[question] < last_image[question]
        together.setdefault((image, question if alone else -1), []).append(question)
    return [
        _Row(
            questions=sorted(questions, key=lambda question: (-lengths[question], question)),
            common=min(common[question] for question in questions),
        )
        for questions in together.values()
    ]


def _common_tokens(batch: Batch, lengths: Sequence[int]) -> list[int]:
    """How many tokens each prompt shares with the first of its image, the question and the last token left out."""
    ids = batch.text["input_ids"]
    first_of: dict[int, int] = {}
    firsts = [first_of.setdefault(image, question) for question, image in enumerate(batch.image_of.tolist())]
    offsets = torch.arange(ids.shape[1], device=ids.device)
    columns = offsets + (ids.shape[1] - torch.tensor(lengths, device=ids.device)).unsqueeze(1)
    aligned = ids.gather(1, columns.clamp(max=ids.shape[1] - 1))
    words = batch.question_tokens.gather(1, columns.clamp(max=ids.shape[1] - 1)) | (columns >= ids.shape[1] - 1)
    same = (aligned == aligned[firsts]) & ~words
    common: list[int] = same.int().cumprod(1).sum(1).tolist()
    return common


def _up_to_last(where: torch.Tensor, lengths: Sequence[int]) -> list[int]:
    """How many tokens of each left-padded prompt there are up to the last marked one; 0 where none is marked."""
    behind = where.flip(1).int().argmax(1)
    up_to: list[int] = ((torch.tensor(lengths, device=where.device) - behind) * where.any(1)).tolist()
    return up_to


def _cheapest_rows(groups: Sequence[_Row], lengths: Sequence[int], *, width: int) -> list[_Row]:
    """Split groups to the number of questions a row that takes least work, padding included."""
    candidates = [_split(groups, most) for most in range(1, max(len(group.questions) for group in groups) + 1)]
    return min(candidates, key=lambda rows: _work(rows, lengths, width=width))


def _split(groups: Sequence[_Row], most: int) -> list[_Row]:
    """Split groups evenly into rows of at most so many questions; nothing is common where each stands alone."""
    rows = []
    for group in groups:
        parts = -(-len(group.questions) // most)
        # Every so-manieth question, so that the rows of an image are about equally long.
        rows += [_Row(group.questions[part::parts], group.common if most > 1 else 0) for part in range(parts)]
    return rows


def _widths(rows: Sequence[_Row], lengths: Sequence[int]) -> list[int]:
    """The columns that the common part and each place take."""
    places = [0] * max(len(row.questions) for row in rows)
    for row in rows:
        for place, question in enumerate(row.questions):
            places[place] = max(places[place], lengths[question] - row.common)
    return [max(row.common for row in rows), *places]


def _work(rows: Sequence[_Row], lengths: Sequence[int], *, width: int) -> int:
    tokens = sum(_widths(rows, lengths))
    return len(rows) * tokens * (LINEAR_PER_WIDTH * width + tokens)


def _lay_out(
    batch: Batch, rows: Sequence[_Row], lengths: Sequence[int], *, model: Any, adapter: Adapter
) -> PackedPrompts:
    ids = batch.text["input_ids"]
    device, size = ids.device, ids.shape[1]
    widths = torch.tensor(_widths(rows, lengths), device=device)
    ends = widths.cumsum(0)
    places = len(widths) - 1
    # The longest question of a row stands first; the common part is taken from its prompt, and so are the positions.
    members = torch.tensor(
        [[row.questions[0], *row.questions, *[NOWHERE] * (places - len(row.questions))] for row in rows], device=device
    )
    place = torch.repeat_interleave(torch.arange(places + 1, device=device), widths)
    question = members[:, place]
    length = torch.tensor(lengths, device=device)[question]
    column = torch.arange(len(place), device=device)
    common = torch.tensor([row.common for row in rows], device=device).unsqueeze(1)
    # The common part stands at the left of its columns, a question's own tokens at the right of theirs.
    offset = torch.where(place == COMMON, column, length - (ends[place] - column))
    there = torch.where(place == COMMON, offset < common, (offset >= common) & (question != NOWHERE))
    source = (size - length + offset).clamp(0, size - 1)
    first = members[:, 0]
    positions = adapter.positions(
        model, {name: tensor[first] for name, tensor in batch.text.items()}, batch.images, batch.image_of[first]
    )
    own = (size - length[:, :1] + offset).clamp(0, size - 1)
    seats = {question: (row, seat) for row, one in enumerate(rows) for seat, question in enumerate(one.questions)}
    where = torch.tensor([seats[question] for question in range(len(lengths))], device=device)
    return PackedPrompts(
        # What pads is never attended to; it must only not pass for an image token.
        input_ids=torch.where(there, ids[question, source], ids[first, -1:]),
        owner=place.expand(len(rows), -1).masked_fill(~there, NOWHERE),
        position_ids=positions.gather(-1, own.expand(*positions.shape[:-1], -1)),
        image_tokens=batch.image_tokens[question, source] & there,
        question_tokens=batch.question_tokens[question, source] & there,
        image_of=batch.image_of[first],
        row_of=where[:, 0],
        place_of=where[:, 1],
        starts=ends[:-1].tolist(),
        ends=ends[1:].tolist(),
    )
