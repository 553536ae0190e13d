"""Qwen2-VL-7B's architecture with random weights: what its speed depends on, without its weights."""

from typing import Any

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

from reliabit.models.encoding import Encoder
from reliabit.models.families.qwen2_vl import Qwen2VL, image_only_processor
from reliabit.models.loading import Checkpoint
from reliabit.models.reference import build_qwen2_vl

TEXT = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
}
VISION = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14}
"""Of the published `config.json` of Qwen2-VL-7B-Instruct."""


def qwen2_vl_7b(device: torch.device, *, text: dict[str, Any] = TEXT, vision: dict[str, Any] = VISION) -> Checkpoint:
    """Build the model in bfloat16 on a device, with the reference model's small tokenizer.

    Args:
        device: Where to.
        text: What to set of the decoder.
        vision: What to set of the vision tower.
    """
    tokenizer = build_qwen2_vl(["what is in the image?", "is there a red circle?"]).processor.tokenizer
    # Some training texts are too few to tell words apart; prompts get longer, which is for all loops alike.
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
    config = Qwen2VLConfig(
        text_config={**text, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id},
        vision_config=vision,
        tie_word_embeddings=False,
        **dict(zip(names, ids, strict=True)),
    )
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = Qwen2VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(usual)
    processor = image_only_processor(Qwen2VLImageProcessorPil(patch_size=vision["patch_size"]), tokenizer)
    encoder = Encoder(adapter=Qwen2VL(), processor=processor)
    return Checkpoint(model=model.eval().requires_grad_(False), encoder=encoder)
