"""From rows of a VQA table to a batch that a model takes: images encoded once, prompts padded on the left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reliabit.data.image_decoding import decode_image
from reliabit.errors import ReliabitError
from reliabit.models.families import Adapter

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import ProcessorMixin


STAND_IN = "\ue000"
"""A character for private use, which no template and no question holds."""


@dataclass
class Batch:
    """Questions ready for a model.

    Attributes:
        question_ids: The questions.
        text: `input_ids`, `attention_mask` and, for families that use it, `mm_token_type_ids`; `[questions, tokens]`.
        images: The distinct images of the batch, as the vision tower takes them.
        image_of: The image of each question, `[questions]`.
        image_tokens: Where image tokens stand, `[questions, tokens]`, bool.
        question_tokens: Where the question itself stands, template and instructions left out, likewise.
        seen: What the vision tower makes of each image, `[tokens, width]`, where it has run already; then `images` hold
            no more than the decoder reads of them.
    """

    question_ids: list[str]
    text: "dict[str, torch.Tensor]"
    images: "dict[str, torch.Tensor]"
    image_of: "torch.Tensor"
    image_tokens: "torch.Tensor"
    question_tokens: "torch.Tensor"
    seen: "list[torch.Tensor] | None" = None

    def to(self, device: "torch.device") -> "Batch":
        """The same batch with its tensors on a device."""
        return Batch(
            question_ids=self.question_ids,
            text={name: tensor.to(device) for name, tensor in self.text.items()},
            images={name: tensor.to(device) for name, tensor in self.images.items()},
            image_of=self.image_of.to(device),
            image_tokens=self.image_tokens.to(device),
            question_tokens=self.question_tokens.to(device),
            seen=None if self.seen is None else [features.to(device) for features in self.seen],
        )


@dataclass(frozen=True)
class Encoder:
    """Encodes questions for one checkpoint, each put into `template` where it has `{question}`."""

    adapter: Adapter
    processor: "ProcessorMixin"
    template: str = "{question}"

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Encode rows of a VQA table for answering.

        Raises:
            ReliabitError: An image or a question is none that the model takes.
        """
        import torch

        self._check_questions(rows)
        images, image_of = distinct_images(rows)
        try:
            encoded = self.adapter.encode_images(self.processor, images)
        except ValueError as error:
            raise self._refused_image(rows, images, image_of) from error
        prompts = [
            self.prompt(row["question"], placeholder=encoded.placeholders[image])
            for row, image in zip(rows, image_of, strict=True)
        ]
        text, offsets = self._tokenize(prompts)
        before, after = self.around_question()
        spans = [
            (len(self._expand(before, placeholder=encoded.placeholders[image])), len(prompt) - len(after))
            for prompt, image in zip(prompts, image_of, strict=True)
        ]
        return Batch(
            question_ids=[row["question_id"] for row in rows],
            text=text,
            images=encoded.tensors,
            image_of=torch.tensor(image_of),
            image_tokens=text["input_ids"] == self.processor.image_token_id,
            question_tokens=tokens_within(offsets, spans),
        )

    @cached_property
    def reserved(self) -> "re.Pattern[str]":
        """The texts of special tokens, with which a question could pose as the template or as an image."""
        words = {str(token) for token in self.processor.tokenizer.added_tokens_decoder.values()}
        # The longest first, so that the whole of a word is found.
        ordered = sorted({*words, self.adapter.image_token}, key=lambda word: (-len(word), word))
        return re.compile("|".join(map(re.escape, ordered)))

    def _check_questions(self, rows: Sequence[dict[str, Any]]) -> None:
        token = self.adapter.image_token
        for row in rows:
            if token in row["question"]:
                raise ReliabitError(
                    f"the question {row['question_id']} of {row['source']} holds {token}, which stands for an image; "
                    "leave it out of the data"
                )

    def _refused_image(
        self, rows: Sequence[dict[str, Any]], images: "Sequence[Image]", image_of: Sequence[int]
    ) -> ReliabitError:
        """Which image it was that the processor would not take with the others."""
        for number, image in enumerate(images):
            try:
                self.adapter.encode_images(self.processor, [image])
            except ValueError as error:
                row = rows[image_of.index(number)]
                size = "x".join(map(str, image.size))
                return ReliabitError(
                    f"the image {row['image_id']} of {row['source']}, {size} pixels, is none that the model takes "
                    f"({error}); leave it out of the data"
                )
        return ReliabitError("the images of a batch cannot be encoded together; set trainer.batch_size=1")

    def prompt(self, question: str, *, placeholder: str) -> str:
        """The whole prompt of a question, the image's placeholder expanded to as many tokens as it has."""
        text = self.adapter.prompt(self.processor, self.template.format(question=question))
        return self._expand(text, placeholder=placeholder)

    def tokenize(self, texts: list[str]) -> "dict[str, torch.Tensor]":
        """Tokenize whole prompts, padded on the left; image tokens are told apart in `mm_token_type_ids`."""
        return self._tokenize(texts)[0]

    def _expand(self, text: str, *, placeholder: str) -> str:
        return text.replace(self.adapter.image_token, placeholder, 1)

    def around_question(self) -> tuple[str, str]:
        """What stands before and after the question in every prompt, the image's token not yet expanded.

        Raises:
            ReliabitError: The template does not show the question once.
        """
        parts = self.adapter.prompt(self.processor, self.template.format(question=STAND_IN)).split(STAND_IN)
        if len(parts) != 2:
            raise ReliabitError(
                f"model.template={self.template!r} shows the question {len(parts) - 1} times; write {{question}} once"
            )
        return parts[0], parts[1]

    def _tokenize(self, texts: list[str]) -> "tuple[dict[str, torch.Tensor], torch.Tensor]":
        import numpy as np
        import torch

        inputs = self.processor.tokenizer(texts, padding=True, add_special_tokens=False, return_offsets_mapping=True)
        # torch reads nested lists a number at a time; that took longer than the tokenizer.
        names = ("input_ids", "attention_mask", "offset_mapping")
        read = {name: torch.from_numpy(np.asarray(inputs[name], dtype=np.int64)) for name in names}
        tensors = {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}
        if "mm_token_type_ids" in self.processor.model_input_names:
            tensors["mm_token_type_ids"] = (read["input_ids"] == self.processor.image_token_id).int()
        return tensors, read["offset_mapping"]


def tokens_within(offsets: "torch.Tensor", spans: Sequence[tuple[int, int]]) -> "torch.Tensor":
    """Mark the tokens that overlap a span of characters.

    Args:
        offsets: First and last character of each token, `[texts, tokens, 2]`; padding has none, `(0, 0)`.
        spans: First and last character of each text's span.

    Returns:
        `[texts, tokens]`, bool.

    >>> import torch
    >>> tokens_within(torch.tensor([[[0, 0], [0, 3], [3, 5], [5, 9]]]), [(4, 9)])
    tensor([[False, False,  True,  True]])
    """
    import torch

    starts, ends = torch.tensor(spans).unbind(-1)
    return (offsets[..., 0] < ends[:, None]) & (offsets[..., 1] > starts[:, None])


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
