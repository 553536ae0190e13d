"""What a packed model is recovered on, a batch a step: questions of `train`, and of `dev` where a term scores them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from reliabit.data.image_decoding import decode_image
from reliabit.models.batches import encode_answered
from reliabit.models.encoding import Encoder
from reliabit.models.settings import RecoveryRecipe
from reliabit.models.tower_features import PicturedQuestions

if TYPE_CHECKING:
    from datasets import Dataset as Table
    from PIL.Image import Image

HELD_OUT_IMAGES = 8
"""Images a batch of those that progress is watched on."""


@dataclass(frozen=True)
class Questions:
    """Images of a split with the questions about them, opened when they are drawn."""

    table: "Table"
    groups: Sequence[PicturedQuestions]


@dataclass
class DistilledBatch:
    """Questions with their reference answers, as `encode_answered` gives them; those from `scored` on are of `dev`."""

    inputs: dict[str, Any]
    scored: int


def encode_groups(
    drawn: "Sequence[tuple[Table, PicturedQuestions, Sequence[int]]]", encoder: Encoder
) -> dict[str, Any]:
    """Encode some questions of some images of some tables, each image once."""
    images: list[Image] = []
    rows: list[dict[str, Any]] = []
    image_of: list[int] = []
    for table, group, chosen in drawn:
        shown = table[group.row]
        image_of += [len(images)] * len(chosen)
        images.append(decode_image(shown["image"], item=f"image {shown['image_id']!r} of {shown['source']}"))
        rows += [group.rows[number] for number in chosen]
    return encode_answered(rows, images=images, image_of=image_of, encoder=encoder)


class RecoveryBatches(Dataset[DistilledBatch]):
    """The batches of one epoch; they depend on the recipe and the number of the step alone.

    What is drawn of `train` does not depend on whether `dev` is drawn from.
    """

    def __init__(
        self, train: Questions, dev: Questions | None, *, encoder: Encoder, recipe: RecoveryRecipe, epoch: int
    ) -> None:
        """Describe an epoch; without `dev`, nothing of it is drawn."""
        self.splits = [train] if dev is None else [train, dev]
        self.encoder, self.recipe, self.epoch = encoder, recipe, epoch

    def __len__(self) -> int:
        """Steps in this epoch."""
        return min(self.recipe.epoch_steps, self.recipe.steps - self.epoch * self.recipe.epoch_steps)

    def __getitem__(self, index: int) -> DistilledBatch:
        """Draw the batch of one step."""
        recipe, step = self.recipe, self.epoch * self.recipe.epoch_steps + index
        drawn, counts = [], []
        for number, (split, images) in enumerate(zip(self.splits, (recipe.images, recipe.scored_images), strict=False)):
            rng = np.random.default_rng([recipe.seed, step, number])
            for image in rng.choice(len(split.groups), size=min(images, len(split.groups)), replace=False):
                group = split.groups[image]
                drawn.append((split.table, group, rng.permutation(len(group.rows))[: recipe.questions].tolist()))
            counts.append(sum(len(chosen) for _, _, chosen in drawn))
        return DistilledBatch(encode_groups(drawn, self.encoder), counts[0])


class HeldOutBatches(Dataset[DistilledBatch]):
    """All questions of the images that progress is watched on."""

    def __init__(self, held_out: Questions, *, encoder: Encoder) -> None:
        """Cut them into batches."""
        self.held_out, self.encoder = held_out, encoder

    def __len__(self) -> int:
        """Number of batches."""
        return math.ceil(len(self.held_out.groups) / HELD_OUT_IMAGES)

    def __getitem__(self, index: int) -> DistilledBatch:
        """One batch."""
        groups = self.held_out.groups[index * HELD_OUT_IMAGES :][:HELD_OUT_IMAGES]
        drawn = [(self.held_out.table, group, range(len(group.rows))) for group in groups]
        inputs = encode_groups(drawn, self.encoder)
        return DistilledBatch(inputs, len(inputs["labels"]))
