"""Batches of images that a frozen tower has seen, with the questions about them, for the training of what joins it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from reliabit.models.encoding import Encoder
from reliabit.models.packed_questions import PackedQuestions, pack_questions
from reliabit.models.settings import JoiningRecipe
from reliabit.models.tower_features import PicturedQuestions, TowerFeatures

VALIDATION_IMAGES = 16
"""Images a validation batch."""


@dataclass(frozen=True)
class SeenSource:
    """A source whose images the tower has seen: their questions, and their features in the same order."""

    groups: Sequence[PicturedQuestions]
    features: TowerFeatures


Sources = Mapping[str, SeenSource]


@dataclass
class SeenBatch:
    """Images with their questions; `features` are what the tower saw, `[images, patches, width]`."""

    questions: PackedQuestions
    features: torch.Tensor
    source: str


class JoiningBatches(Dataset[list[SeenBatch]]):
    """The batches of one epoch, one of each source a step; they depend on the recipe and the number of the step alone.

    Each image of a source comes once before any comes again, in another order and another pose.
    """

    def __init__(
        self, sources: Sources, *, encoder: Encoder, placeholder: str, recipe: JoiningRecipe, epoch: int
    ) -> None:
        """Describe an epoch."""
        self.sources, self.encoder, self.placeholder = sources, encoder, placeholder
        self.recipe, self.epoch = recipe, epoch

    def __len__(self) -> int:
        """Steps in this epoch."""
        return min(self.recipe.epoch_steps, self.recipe.steps - self.epoch * self.recipe.epoch_steps)

    def __getitem__(self, index: int) -> list[SeenBatch]:
        """Draw the batches of one step."""
        step_number = self.epoch * self.recipe.epoch_steps + index
        return [
            self._batch(name, first=step_number * images, images=images) for name, images in self.recipe.images.items()
        ]

    def _batch(self, name: str, *, first: int, images: int) -> SeenBatch:
        source = self.sources[name]
        rows, features = [], []
        for number in range(first, first + images):
            turn, position = divmod(number, len(source.groups))
            image = int(_order(len(source.groups), turn=turn, seed=self.recipe.seed)[position])
            rng = np.random.default_rng([self.recipe.seed, turn, image])
            drawn = rng.permutation(len(source.groups[image].rows))[: self.recipe.questions]
            rows.append([source.groups[image].rows[i] for i in drawn])
            features.append(source.features[image, (turn + image) % source.features.poses])
        questions = pack_questions(rows, encoder=self.encoder, placeholder=self.placeholder)
        return SeenBatch(questions, torch.stack(features), name)


@lru_cache(maxsize=8)
def _order(images: int, *, turn: int, seed: int) -> np.ndarray:
    """In which order the images of a source come in a turn; the same for hundreds of steps."""
    return np.random.default_rng([seed, turn]).permutation(images)


class ValidationBatches(Dataset[SeenBatch]):
    """The first images of each source with all their questions, as they are, one source a batch."""

    def __init__(self, sources: Sources, *, encoder: Encoder, placeholder: str, images: int) -> None:
        """Cut the first `images` of each source into batches."""
        self.sources, self.encoder, self.placeholder = sources, encoder, placeholder
        self.batches = [
            (name, range(start, min(start + VALIDATION_IMAGES, images, len(source.groups))))
            for name, source in sources.items()
            for start in range(0, min(images, len(source.groups)), VALIDATION_IMAGES)
        ]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> SeenBatch:
        """One batch."""
        name, numbers = self.batches[index]
        source = self.sources[name]
        rows = [source.groups[number].rows for number in numbers]
        questions = pack_questions(rows, encoder=self.encoder, placeholder=self.placeholder)
        return SeenBatch(questions, torch.stack([source.features[number, 0] for number in numbers]), name)
