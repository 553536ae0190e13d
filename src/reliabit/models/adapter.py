"""What Reliabit must know of a model family: its prompt, its image inputs, and where its layers live."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin


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
    """

    model_type: ClassVar[str]
    image_token: ClassVar[str]
    decoder_layers: ClassVar[str]
    final_norm: ClassVar[str]
    answer_prefix: ClassVar[str] = ""
    end_of_answer: ClassVar[str]

    @abstractmethod
    def load_processor(self, folder: Path) -> "ProcessorMixin":
        """Load the processor of a checkpoint folder."""

    def save_processor(self, processor: "ProcessorMixin", folder: Path) -> None:
        """Write a processor's parts into a checkpoint folder, each in its own file."""
        processor.tokenizer.save_pretrained(folder)
        processor.image_processor.save_pretrained(folder)

    @abstractmethod
    def encode_images(self, processor: "ProcessorMixin", images: "Sequence[Image]") -> EncodedImages:
        """Encode images, one for each prompt."""

    @abstractmethod
    def shared_images(
        self, model: "PreTrainedModel", images: "dict[str, torch.Tensor]", image_of: "torch.Tensor"
    ) -> dict[str, Any]:
        """Run the vision tower once an image and give each question its image's features.

        Args:
            model: The model.
            images: Encoded images, `EncodedImages.tensors`.
            image_of: The image of each question, `[questions]`.

        Returns:
            Keyword arguments for the model's `forward` and `generate`.
        """

    def prompt(self, processor: "ProcessorMixin", question: str) -> str:
        """The prompt of one question about one image, up to where the answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return prompt
