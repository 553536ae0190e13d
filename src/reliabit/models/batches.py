"""Batches of questions with their answers: those that a reference model is trained on, and those of a calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from reliabit.data.image_decoding import decode_image
from reliabit.models.encoding import Encoder
from reliabit.models.settings import Recipe
from reliabit.quant.mbq.calibration_set import CalibrationBatch

if TYPE_CHECKING:
    from datasets import Dataset as Table
    from PIL.Image import Image

IGNORED = -100
"""The label of a token that the loss leaves out, as in transformers."""

VALIDATION_IMAGES = 20
"""Images a validation batch."""


@dataclass(frozen=True)
class ImageQuestions:
    """An image and the questions about it."""

    image: "Image"
    rows: list[dict[str, Any]]


def by_image(table: "Table") -> list[ImageQuestions]:
    """Gather the questions of each image of a VQA table, in table order."""
    groups: dict[str, ImageQuestions] = {}
    for row in table:
        encoded = row.pop("image")
        if row["image_id"] not in groups:
            image = decode_image(encoded, item=f"image {row['image_id']!r} of {row['source']}")
            groups[row["image_id"]] = ImageQuestions(image=image, rows=[])
        groups[row["image_id"]].rows.append(row)
    return list(groups.values())


def only(groups: Sequence[ImageQuestions], types: Sequence[str]) -> list[ImageQuestions]:
    """Keep the questions of some types, and the images that have one."""
    kept = [
        ImageQuestions(image=group.image, rows=[row for row in group.rows if row["question_type"] in types])
        for group in groups
    ]
    return [group for group in kept if group.rows]


def encode_answered(
    questions: Sequence[dict[str, Any]], *, images: "Sequence[Image]", image_of: list[int], encoder: Encoder
) -> dict[str, Any]:
    """Encode rows of a VQA table together with their answers; `image_of` says which image each is about.

    Returns:
        `text`, `images` and `image_of` as in `Batch`, and `labels`, `[questions, tokens]`: the answer's tokens,
        its end included, and `IGNORED` before them.
    """
    adapter = encoder.adapter
    encoded = adapter.encode_images(encoder.processor, images)
    targets = [f"{adapter.answer_prefix}{row['answers'][0]}{adapter.end_of_answer}" for row in questions]
    prompts = [
        encoder.prompt(row["question"], placeholder=encoded.placeholders[image])
        for row, image in zip(questions, image_of, strict=True)
    ]
    text = encoder.tokenize([prompt + target for prompt, target in zip(prompts, targets, strict=True)])
    labels = torch.full_like(text["input_ids"], IGNORED)
    tokens = encoder.processor.tokenizer(targets, add_special_tokens=False)["input_ids"]
    for number, ids in enumerate(tokens):
        labels[number, -len(ids) :] = torch.tensor(ids)
    return {"text": text, "images": encoded.tensors, "image_of": torch.tensor(image_of), "labels": labels}


class TrainingBatches(Dataset[dict[str, Any]]):
    """The batches of one epoch; batch `i` depends on the recipe, the epoch and `i` alone."""

    def __init__(
        self, groups: Mapping[str, list[ImageQuestions]], *, encoder: Encoder, recipe: Recipe, epoch: int
    ) -> None:
        """Describe an epoch, by the training split of each source."""
        self.groups = groups
        self.first_groups = {source: only(groups[source], recipe.first_types) for source in recipe.first_mix}
        self.encoder = encoder
        self.recipe = recipe
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps in this epoch."""
        return min(self.recipe.epoch_steps, self.recipe.steps - self.epoch * self.recipe.epoch_steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw one batch."""
        recipe = self.recipe
        step = self.epoch * recipe.epoch_steps + index
        early = step < recipe.first_steps
        rng = np.random.default_rng([recipe.seed, step])
        images: list[Image] = []
        questions: list[dict[str, Any]] = []
        image_of: list[int] = []
        for source, share in (recipe.first_mix if early else recipe.mix).items():
            groups = self.first_groups[source] if early else self.groups[source]
            for number in rng.choice(len(groups), size=round(share * recipe.images), replace=False):
                group = groups[number]
                drawn = [group.rows[i] for i in rng.permutation(len(group.rows))[: recipe.questions]]
                image_of += [len(images)] * len(drawn)
                images.append(turned(group.image, rng=rng) if source in recipe.flipped else group.image)
                questions += drawn
        return encode_answered(questions, images=images, image_of=image_of, encoder=self.encoder)


class ValidationBatches(Dataset[dict[str, Any]]):
    """The first images of each source's validation split with all their questions, one source a batch."""

    def __init__(self, groups: Mapping[str, list[ImageQuestions]], *, encoder: Encoder, images: int) -> None:
        """Cut the first `images` of each source into batches."""
        self.encoder = encoder
        self.batches = [
            (source, every[:images][start : start + VALIDATION_IMAGES])
            for source, every in groups.items()
            for start in range(0, min(images, len(every)), VALIDATION_IMAGES)
        ]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One batch, with the name of its `source`."""
        source, groups = self.batches[index]
        batch = encode_answered(
            [row for group in groups for row in group.rows],
            images=[group.image for group in groups],
            image_of=[number for number, group in enumerate(groups) for _ in group.rows],
            encoder=self.encoder,
        )
        return {**batch, "source": source}


def turned(image: "Image", *, rng: np.random.Generator) -> "Image":
    """Flip and turn an image at random, into one of its eight symmetric poses."""
    from PIL.Image import Transpose

    for transpose in (Transpose.FLIP_LEFT_RIGHT, Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_90):
        if rng.random() < 0.5:
            image = image.transpose(transpose)
    return image


def calibration_batches(
    rows: Sequence[dict[str, Any]], *, encoder: Encoder, batch_size: int, device: str = "cpu"
) -> list[CalibrationBatch]:
    """Encode rows of a VQA table with their first reference answers, each with an image of its own.

    Returns:
        Batches for the model's own forward pass, which decides on positions and masks.
    """
    return [
        _calibration_batch(rows[start : start + batch_size], encoder, device)
        for start in range(0, len(rows), batch_size)
    ]


def _calibration_batch(rows: Sequence[dict[str, Any]], encoder: Encoder, device: str) -> CalibrationBatch:
    images = [decode_image(row["image"], item=f"question {row['question_id']!r} of {row['source']}") for row in rows]
    encoded = encode_answered(rows, images=images, image_of=list(range(len(rows))), encoder=encoder)
    text, labels = encoded["text"], encoded["labels"]
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    inputs = {name: tensor.to(device) for name, tensor in (text | encoded["images"]).items()}
    return CalibrationBatch(
        inputs=inputs,
        vision=inputs["input_ids"] == encoder.processor.image_token_id,
        targets=targets.to(device),
        attended=inputs["attention_mask"].bool(),
    )
