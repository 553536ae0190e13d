"""Greedy decoding of packed prompts: one pass over all prompts, then one token of every question a pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reliabit.inference.packing import COMMON, NOWHERE, PackedPrompts


@dataclass(frozen=True)
class Decoded:
    """Generated tokens; what follows an answer's end is of no meaning.

    Attributes:
        tokens: `[questions, steps]`.
        logits: The unprocessed logits that each was chosen by, `[questions, steps, vocabulary]`, in float32.
    """

    tokens: torch.Tensor
    logits: torch.Tensor


@torch.no_grad()
def decode(
    model: Any, packed: PackedPrompts, *, images: dict[str, Any], ends: Sequence[int], max_new_tokens: int
) -> Decoded:
    """Choose the likeliest token of every question until all answers have ended.

    Args:
        model: A causal model of transformers, with attention `sdpa` or `eager` where questions share rows.
        packed: The prompts.
        images: What the model's `forward` takes for the images of the rows, see `Adapter.image_inputs`.
        ends: The tokens that end an answer.
        max_new_tokens: Where an answer is cut off, at least 1.
    """
    from transformers import DynamicCache

    device, last = packed.input_ids.device, torch.tensor(packed.ends, device=packed.input_ids.device) - 1
    places = torch.arange(1, len(last) + 1, device=device).expand(len(packed.input_ids), -1)
    owner, positions = packed.owner, packed.position_ids[..., last]
    mask = _attended if len(packed.ends) > 1 else _not_padding
    cache = DynamicCache(config=model.config.get_text_config())
    logits = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=mask(owner, owner, dtype=model.dtype),
        past_key_values=cache,
        logits_to_keep=last,
        use_cache=True,
        **images,
    ).logits
    chosen = logits.argmax(-1)
    tokens, scores = [packed.of_questions(chosen)], [packed.of_questions(logits).float()]
    last_tokens = torch.tensor(ends, device=device)
    ended = torch.isin(tokens[0], last_tokens)
    while len(tokens) < max_new_tokens and not ended.all():
        owner, positions = torch.cat([owner, places], dim=1), positions + 1
        logits = model(
            input_ids=chosen,
            position_ids=positions,
            attention_mask=mask(places, owner, dtype=model.dtype),
            past_key_values=cache,
            use_cache=True,
        ).logits
        chosen = logits.argmax(-1)
        tokens.append(packed.of_questions(chosen))
        scores.append(packed.of_questions(logits).float())
        ended = ended | torch.isin(tokens[-1], last_tokens)
    return Decoded(tokens=torch.stack(tokens, dim=1), logits=torch.stack(scores, dim=1))


def _not_padding(asking: torch.Tensor, asked: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """Where rows of one question have tokens, `[rows, keys]`: transformers' own masks suit the fastest kernels."""
    return (asked != NOWHERE).long()


def _attended(asking: torch.Tensor, asked: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """The additive attention mask between the last columns of packed rows and all of them.

    Args:
        asking: Owners of the columns that attend, `[rows, queries]`.
        asked: Owners of all columns so far, `[rows, keys]`.
        dtype: The model's precision.

    Returns:
        0 for earlier or own columns of the same owner and of the common part, the lowest number for others;
        `[rows, 1, queries, keys]`. Padding attends to padding, so that no row of it is empty.
    """
    queries, keys = asking.shape[1], asked.shape[1]
    columns = torch.arange(keys, device=asked.device)
    earlier = columns <= columns[keys - queries :].unsqueeze(1)
    same = (asked.unsqueeze(1) == asking.unsqueeze(2)) | (asked.unsqueeze(1) == COMMON)
    closed = ~(same & earlier).unsqueeze(1)
    return torch.zeros(closed.shape, dtype=dtype, device=asked.device).masked_fill(closed, torch.finfo(dtype).min)
