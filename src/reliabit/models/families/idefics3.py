"""Idefics3."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reliabit.models.families import FAMILIES, Adapter, EncodedImages, chat_template

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import ProcessorMixin


@FAMILIES.register("idefics3")
class Idefics3(Adapter):
    """`Idefics3ForConditionalGeneration`: images cut into tiles of one size, a fixed number of tokens a tile."""

    model_type: ClassVar[str] = "idefics3"
    image_token: ClassVar[str] = "<image>"  # noqa: S105 - no password
    decoder_layers: ClassVar[str] = "model.text_model.layers"
    final_norm: ClassVar[str] = "model.text_model.norm"
    answer_prefix: ClassVar[str] = " "
    end_of_answer: ClassVar[str] = "<end_of_utterance>"

    def load_processor(self, folder: Path) -> "ProcessorMixin":
        from transformers import AutoTokenizer, Idefics3ImageProcessorPil, Idefics3Processor

        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        settings, _ = Idefics3Processor.get_processor_dict(folder)
        return Idefics3Processor(
            Idefics3ImageProcessorPil.from_pretrained(folder),
            tokenizer,
            image_seq_len=settings["image_seq_len"],
            chat_template=chat_template(folder, tokenizer),
        )

    def save_processor(self, processor: "ProcessorMixin", folder: Path) -> None:
        super().save_processor(processor, folder)
        processor.save_pretrained(folder)

    def encode_images(self, processor: "ProcessorMixin", images: "Sequence[Image]") -> EncodedImages:
        inputs = processor.image_processor(
            images=[[image] for image in images], return_tensors="pt", return_row_col_info=True
        )
        placeholders = [processor.replace_image_token(inputs, image) for image in range(len(images))]
        tensors = {name: inputs[name] for name in ("pixel_values", "pixel_attention_mask")}
        return EncodedImages(tensors=tensors, placeholders=placeholders)

    def placeholder(self, processor: "ProcessorMixin", size: tuple[int, int]) -> str:
        width, height = size
        _, rows, columns = processor.image_processor.get_number_of_image_patches(height, width, {})
        found: str = processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        return found
