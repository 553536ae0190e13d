"""Weights and prompts that the tests of quantization share."""

import torch
from transformers import PreTrainedModel

from reliabit.models.reference import BUILDERS

FAMILIES = tuple(BUILDERS)


def heavy_tailed(rows: int, columns: int, *, seed: int = 0) -> torch.Tensor:
    """Weights like those of a trained layer: Student's t with 3 degrees of freedom."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((rows, columns), generator=generator)
    chi = torch.randn((3, rows, columns), generator=generator).square().sum(0)
    return 0.02 * normal / (chi / 3).sqrt()


def inputs_for(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A short prompt without an image."""
    ids = torch.tensor([[40, 41, 42, 43, 44]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.model_type == "qwen2_vl":
        inputs["mm_token_type_ids"] = torch.zeros_like(ids)
    return inputs


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> torch.Tensor:
    """The logits of the short prompt."""
    return model(**inputs_for(model)).logits.float()


@torch.no_grad()
def answer_of(model: PreTrainedModel) -> list[int]:
    """The greedy answer to the short prompt, whatever tokens it ends with."""
    tokens = model.generate(**inputs_for(model), max_new_tokens=8, do_sample=False, eos_token_id=None)
    return tokens[0].tolist()
