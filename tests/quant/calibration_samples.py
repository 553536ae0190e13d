"""Calibration batches of random tokens and patches, for the reference architectures at any padding."""

import torch
from transformers import PreTrainedModel

from reliabit.quant.mbq.calibration_set import IGNORED, CalibrationBatch
from reliabit.quant.plan import Scheme

IMAGE_TOKENS = 25
LAYERS = {"qwen2_vl": "model.language_model.layers", "idefics3": "model.text_model.layers"}
LINEARS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


def schemes_of(layers: int, **options) -> dict[int, dict[str, Scheme]]:
    """A scheme for every linear layer of a decoder."""
    return {index: {path: Scheme(**options) for path in LINEARS} for index in range(layers)}


def random_batch(model: PreTrainedModel, *, seed: int, sequences: int = 3, padding: int = 0) -> CalibrationBatch:
    """Sequences of an image, some words and an answer of two tokens, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    words, length = 9, 2 + IMAGE_TOKENS + 9 + 2
    image = model.config.image_token_id
    ids = torch.randint(40, 300, (sequences, length), generator=generator)
    ids[:, 1 : 1 + IMAGE_TOKENS] = image
    targets = torch.full_like(ids, IGNORED)
    targets[:, 1 + IMAGE_TOKENS + words : -1] = ids[:, 2 + IMAGE_TOKENS + words :]
    attended = torch.ones_like(ids, dtype=torch.bool)
    if padding:
        ids = torch.cat([torch.zeros(sequences, padding, dtype=ids.dtype), ids], dim=1)
        targets = torch.cat([torch.full((sequences, padding), IGNORED), targets], dim=1)
        attended = torch.cat([torch.zeros(sequences, padding, dtype=torch.bool), attended], dim=1)
    inputs = {"input_ids": ids, "attention_mask": attended.long(), **_images(model, sequences, generator)}
    if model.config.model_type == "qwen2_vl":
        inputs["mm_token_type_ids"] = (ids == image).int()
    return CalibrationBatch(inputs=inputs, vision=ids == image, targets=targets, attended=attended)


def _images(model: PreTrainedModel, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    if model.config.model_type == "qwen2_vl":
        grid = torch.tensor([[1, 10, 10]]).expand(count, -1)
        return {"pixel_values": torch.randn(count * 100, 3 * 2 * 64, generator=generator), "image_grid_thw": grid}
    pixels = torch.randn(count, 1, 3, 80, 80, generator=generator)
    return {"pixel_values": pixels, "pixel_attention_mask": torch.ones(count, 1, 80, 80, dtype=torch.long)}
