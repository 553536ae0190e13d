"""The model families: what Reliabit must know of each, and the registry in which they are found by name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from reliabit.components import Components
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin


FAMILIES: "Components[type[Adapter]]" = Components(
    "model family", package="reliabit.models.families", entry_points="reliabit.families"
)
"""Every `Adapter`, by the name that `model.family` gives it."""


@dataclass(frozen=True)
class EncodedImages:
    """Images as the vision tower takes them.

    Attributes:
        tensors: The keyword arguments of the model's `get_image_features`.
        placeholders: For each image, the text that stands for it in a prompt.
    """

    tensors: "dict[str, torch.Tensor]"
    placeholders: list[str]


class Adapter(ABC):
    """One model family; instances hold no state.

    Attributes:
        model_type: The family's name in `config.json`.
        image_token: The text that the chat template puts where the image goes.
        decoder_layers: The dotted path of the language model's decoder layers.
        final_norm: The dotted path of the norm after them, whose output the head reads.
        answer_prefix: What the template leaves between the prompt and the first word of the answer.
        end_of_answer: The special token that ends an answer.
        any_size: Whether it takes images of any size, so that larger ones can be shrunk to a number of pixels.
        described_by: Of the encoded images' tensors those that the decoder reads too, such as their sizes.
    """

    model_type: ClassVar[str]
    image_token: ClassVar[str]
    decoder_layers: ClassVar[str]
    final_norm: ClassVar[str]
    answer_prefix: ClassVar[str] = ""
    end_of_answer: ClassVar[str]
    any_size: ClassVar[bool] = False
    described_by: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def load_processor(self, folder: Path) -> "ProcessorMixin":
        """Load the processor of a checkpoint folder."""

    def check_limit(self, max_pixels: int | None) -> None:
        """Check that images may be shrunk to a number of pixels, as families can that take images of any size.

        Raises:
            ReliabitError: The family cuts images to a size of its own.
        """
        if max_pixels is not None and not self.any_size:
            raise ReliabitError(
                f"model.max_pixels={max_pixels} is no setting of the family {self.model_type}, which cuts images to a "
                "size of its own; leave it out"
            )

    def limit_pixels(self, processor: "ProcessorMixin", max_pixels: int) -> None:
        """Shrink images that are larger; see `check_limit`.

        Raises:
            ReliabitError: The family cuts images to a size of its own.
        """
        self.check_limit(max_pixels)

    def save_processor(self, processor: "ProcessorMixin", folder: Path) -> None:
        """Write a processor's parts into a checkpoint folder, each in its own file."""
        processor.tokenizer.save_pretrained(folder)
        processor.image_processor.save_pretrained(folder)

    @abstractmethod
    def encode_images(self, processor: "ProcessorMixin", images: "Sequence[Image]") -> EncodedImages:
        """Encode images, one for each prompt."""

    @abstractmethod
    def placeholder(self, processor: "ProcessorMixin", size: tuple[int, int]) -> str:
        """The text that stands in a prompt for an image of some width and height, as `encode_images` gives it.

        Raises:
            ValueError: The processor takes no such image.
        """

    def see_images(self, model: "PreTrainedModel", images: "dict[str, torch.Tensor]") -> "list[torch.Tensor]":
        """Run the vision tower and what connects it to the decoder, once for each of `EncodedImages.tensors`.

        Returns:
            For each image what the decoder reads of it, `[tokens, width]`.
        """
        found: Any = model
        return list(found.get_image_features(**images, return_dict=True).pooler_output)

    def image_inputs(
        self, seen: "Sequence[torch.Tensor]", images: "dict[str, torch.Tensor]", image_of: "torch.Tensor"
    ) -> dict[str, Any]:
        """Give each question what was seen of its image.

        Args:
            seen: What `see_images` found.
            images: Of the encoded images at least the tensors that `described_by` names.
            image_of: The image of each question, `[questions]`.

        Returns:
            Keyword arguments for the model's `forward` and `generate`.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        features = BaseModelOutputWithPooling(pooler_output=[seen[image] for image in image_of.tolist()])
        described = {name: images[name][image_of] for name in self.described_by}
        return {"mm_encoder_outputs": {"image": features}, **described}

    def shared_images(
        self, model: "PreTrainedModel", images: "dict[str, torch.Tensor]", image_of: "torch.Tensor"
    ) -> dict[str, Any]:
        """See images and give each question its own; see `see_images` and `image_inputs`."""
        return self.image_inputs(self.see_images(model, images), images, image_of)

    def positions(
        self,
        model: "PreTrainedModel",
        text: "dict[str, torch.Tensor]",
        images: "dict[str, torch.Tensor]",
        image_of: "torch.Tensor",
    ) -> "torch.Tensor":
        """The rotary positions of left-padded prompts, as the decoder takes them.

        Args:
            model: Whose decoder it is.
            text: The prompts, see `reliabit.models.encoding.Batch`.
            images: Of the encoded images at least the tensors that `described_by` names.
            image_of: The image of each prompt, `[prompts]`.

        Returns:
            `[prompts, tokens]`, or `[axes, prompts, tokens]` for families with several axes; anything at padding. After
            the last image they rise by one a token on every axis.
        """
        return (text["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    def prompt(self, processor: "ProcessorMixin", question: str) -> str:
        """The prompt of one question about one image, up to where the answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return prompt


def find_adapter(family: str) -> Adapter:
    """The adapter of a model family.

    Raises:
        ReliabitError: There is none.
    """
    if family not in FAMILIES:
        raise ReliabitError(f"there is no adapter for the model family {family!r}; choose one of {', '.join(FAMILIES)}")
    return FAMILIES[family]()


def chat_template(folder: Path, tokenizer: Any) -> str:
    """The chat template of a checkpoint: that of its processor, wherever the folder keeps it, or of its tokenizer.

    Raises:
        ReliabitError: It has none.
    """
    from transformers import ProcessorMixin

    settings, _ = ProcessorMixin.get_processor_dict(folder)
    found = settings.get("chat_template") or tokenizer.chat_template
    if not isinstance(found, str):
        raise ReliabitError(f"{folder} has no chat template; questions can be put to instruction-tuned models alone")
    return found
