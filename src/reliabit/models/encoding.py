"""From rows of a VQA table to a batch that a model takes: images encoded once, prompts padded on the left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reliabit.data.table import decode_image
from reliabit.models.adapter import Adapter

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import ProcessorMixin


@dataclass
class Batch:
    """Questions ready for a model.

    Attributes:
        question_ids: The questions.
        text: `input_ids`, `attention_mask` and, for families that use it, `mm_token_type_ids`; `[questions, tokens]`.
        images: The distinct images of the batch, as the vision tower takes them.
        image_of: The image of each question, `[questions]`.
    """

    question_ids: list[str]
    text: "dict[str, torch.Tensor]"
    images: "dict[str, torch.Tensor]"
    image_of: "torch.Tensor"


@dataclass(frozen=True)
class Encoder:
    """Encodes questions for one checkpoint.

    Attributes:
        adapter: The model family.
        processor: The checkpoint's processor.
        template: The prompt around a question; `{question}` stands for it.
    """

    adapter: Adapter
    processor: "ProcessorMixin"
    template: str = "{question}"

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Encode rows of a VQA table for answering."""
        import torch

        images, image_of = distinct_images(rows)
        encoded = self.adapter.encode_images(self.processor, images)
        prompts = [
            self.prompt(row["question"], placeholder=encoded.placeholders[image])
            for row, image in zip(rows, image_of, strict=True)
        ]
        return Batch(
            question_ids=[row["question_id"] for row in rows],
            text=self.tokenize(prompts),
            images=encoded.tensors,
            image_of=torch.tensor(image_of),
        )

    def prompt(self, question: str, *, placeholder: str) -> str:
        """The whole prompt of a question, the image's placeholder expanded to as many tokens as it has."""
        text = self.adapter.prompt(self.processor, self.template.format(question=question))
        return text.replace(self.adapter.image_token, placeholder, 1)

    def tokenize(self, texts: list[str]) -> "dict[str, torch.Tensor]":
        """Tokenize whole prompts, padded on the left; image tokens are told apart in `mm_token_type_ids`."""
        inputs = self.processor.tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        tensors = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        if "mm_token_type_ids" in self.processor.model_input_names:
            tensors["mm_token_type_ids"] = (inputs["input_ids"] == self.processor.image_token_id).int()
        return tensors


def distinct_images(rows: Sequence[dict[str, Any]]) -> "tuple[list[Image], list[int]]":
    """Decode each distinct image of some rows once, and say which one each row is about."""
    index: dict[tuple[str, str], int] = {}
    images: list[Image] = []
    image_of: list[int] = []
    for row in rows:
        key = (row["source"], row["image_id"])
        if key not in index:
            index[key] = len(images)
            images.append(decode_image(row["image"], item=f"question {row['question_id']!r} of {row['source']}"))
        image_of.append(index[key])
    return images, image_of
