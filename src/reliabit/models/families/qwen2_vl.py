"""Qwen2-VL and Qwen2.5-VL."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from reliabit.errors import ReliabitError
from reliabit.models.families import FAMILIES, Adapter, EncodedImages, chat_template

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin


@FAMILIES.register("qwen2_vl")
class Qwen2VL(Adapter):
    """`Qwen2VLForConditionalGeneration`: images of any size, one token for 2x2 patches, three-axis rotary positions."""

    model_type: ClassVar[str] = "qwen2_vl"
    image_token: ClassVar[str] = "<|image_pad|>"  # noqa: S105 - no password
    decoder_layers: ClassVar[str] = "model.language_model.layers"
    final_norm: ClassVar[str] = "model.language_model.norm"
    end_of_answer: ClassVar[str] = "<|im_end|>"
    any_size: ClassVar[bool] = True
    described_by: ClassVar[tuple[str, ...]] = ("image_grid_thw",)

    def load_processor(self, folder: Path) -> "ProcessorMixin":
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        tokenizer.chat_template = chat_template(folder, tokenizer)
        return image_only_processor(Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer)

    def limit_pixels(self, processor: "ProcessorMixin", max_pixels: int) -> None:
        images = processor.image_processor
        shortest = images.size["shortest_edge"]
        if max_pixels < shortest:
            raise ReliabitError(
                f"model.max_pixels={max_pixels} is less than the {shortest} pixels that images must have"
            )
        # The names are those of edges; what they hold are areas.
        images.size = {"shortest_edge": shortest, "longest_edge": max_pixels}

    def encode_images(self, processor: "ProcessorMixin", images: "Sequence[Image]") -> EncodedImages:
        inputs = processor.image_processor(images=list(images), return_tensors="pt")
        placeholders = [processor.replace_image_token(inputs, image) for image in range(len(images))]
        return EncodedImages(tensors=dict(inputs), placeholders=placeholders)

    def placeholder(self, processor: "ProcessorMixin", size: tuple[int, int]) -> str:
        width, height = size
        images = processor.image_processor
        tokens = images.get_number_of_image_patches(height, width, {}) // images.merge_size**2
        return self.image_token * int(tokens)

    def positions(
        self,
        model: "PreTrainedModel",
        text: "dict[str, torch.Tensor]",
        images: "dict[str, torch.Tensor]",
        image_of: "torch.Tensor",
    ) -> "torch.Tensor":
        found: Any = model
        sizes = images["image_grid_thw"][image_of]
        positions: torch.Tensor = found.model.get_rope_index(**text, image_grid_thw=sizes)[0]
        return positions


@FAMILIES.register("qwen2_5_vl")
class Qwen2_5_VL(Qwen2VL):  # noqa: N801 - the model's own name
    """`Qwen2_5_VLForConditionalGeneration`: Qwen2-VL with windows in the vision tower.

    Prompt, tokens and names are those of Qwen2-VL; its processor differs in videos alone, of which there are none.
    """

    model_type: ClassVar[str] = "qwen2_5_vl"


def image_only_processor(image_processor: Any, tokenizer: Any) -> "ProcessorMixin":
    """Build a `Qwen2VLProcessor` without the video processor, which needs torchvision.

    transformers 5 refuses `video_processor=None`: it looks up the class that the argument should have, and
    that look-up itself imports torchvision. The subclass answers it for this one argument.
    """
    from transformers import Qwen2VLProcessor

    class ImageOnlyProcessor(Qwen2VLProcessor):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor":
                return type(argument)
            return super().check_argument_for_proper_class(argument_name, argument)

    ImageOnlyProcessor.__name__ = Qwen2VLProcessor.__name__
    return ImageOnlyProcessor(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )
