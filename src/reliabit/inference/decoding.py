"""Greedy decoding of packed prompts, and what the logits say of the tokens that were chosen.

One pass over all prompts, then one token of every question a pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reliabit.inference._prefix_sharing import COMMON, NOWHERE, PackedPrompts


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


@torch.no_grad()
def written_logits(model: Any, packed: PackedPrompts, *, images: dict[str, Any], last: int) -> torch.Tensor:
    """The logits that the last tokens of prompts are predicted by: an answer that is written already, in one pass.

    Args:
        model: See `decode`.
        packed: The prompts, each with its answer behind it.
        images: See `decode`.
        last: How many tokens; what lies before the prompt of a question is of no meaning.

    Returns:
        Unprocessed, `[questions, last, vocabulary]`, in float32.
    """
    owner = packed.owner
    ends = torch.tensor(packed.ends, device=owner.device).unsqueeze(1)
    columns = (ends - 1 - last + torch.arange(last, device=owner.device)).clamp(min=0)
    mask = _attended if len(packed.ends) > 1 else _not_padding
    logits = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=mask(owner, owner, dtype=model.dtype),
        logits_to_keep=columns.flatten(),
        use_cache=False,
        **images,
    ).logits
    return packed.of_questions(logits.unflatten(1, columns.shape)).float()


def _not_padding(_: torch.Tensor, asked: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:  # noqa: ARG001
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


@dataclass(frozen=True)
class TokenScores:
    """What the logits say of generated tokens; all `[questions]`, in float64."""

    log_prob: torch.Tensor
    min_token_prob: torch.Tensor
    first_token_prob: torch.Tensor
    first_token_entropy: torch.Tensor
    first_token_margin: torch.Tensor
    mean_entropy: torch.Tensor


def score_tokens(logits: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor) -> TokenScores:
    """Score generated tokens by the model's own distribution.

    Args:
        logits: Unprocessed logits, `[questions, steps, vocabulary]`.
        tokens: The tokens chosen, `[questions, steps]`.
        lengths: How many of them belong to the answer, its end included, `[questions]`, at least 1.

    Returns:
        The scores. MaxProb (arXiv 2602.13289) is `exp(log_prob)`: the product over all generated tokens.

    >>> logits = torch.log(torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]))
    >>> scores = score_tokens(logits, torch.tensor([[0, 1]]), torch.tensor([2]))
    >>> round(scores.log_prob.exp().item(), 6)
    0.72
    """
    # In float32 the log-probability of a sure token rounds to zero, and sure answers would tie by the hundred.
    log_probs = torch.log_softmax(logits.double(), dim=-1)
    chosen = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    beyond = torch.arange(tokens.shape[1], device=tokens.device) >= lengths.unsqueeze(1)
    # Over the whole vocabulary, which takes as long as the softmax: not for what comes after the end of an answer.
    entropies = log_probs.new_zeros(beyond.shape)
    entropies[~beyond] = torch.special.entr(log_probs[~beyond].exp()).sum(-1)
    two_best = log_probs[:, 0].exp().topk(2, dim=-1).values
    return TokenScores(
        log_prob=chosen.masked_fill(beyond, 0).sum(1),
        min_token_prob=chosen.masked_fill(beyond, 0).min(1).values.exp(),
        first_token_prob=chosen[:, 0].exp(),
        first_token_entropy=entropies[:, 0],
        first_token_margin=two_best[:, 0] - two_best[:, 1],
        mean_entropy=entropies.sum(1) / lengths,
    )


def end_of_answers(tokens: torch.Tensor, *, ends: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Find where answers end.

    Args:
        tokens: Generated tokens, `[questions, steps]`.
        ends: The tokens that end an answer.

    Returns:
        How many tokens belong to each answer, its end included, and whether it ended at all; `[questions]`.

    >>> end_of_answers(torch.tensor([[5, 9, 0], [5, 6, 7]]), ends=[9])
    (tensor([2, 3]), tensor([ True, False]))
    """
    ended = torch.isin(tokens, torch.tensor(ends, device=tokens.device))
    return torch.where(ended.any(1), ended.int().argmax(1) + 1, tokens.shape[1]), ended.any(1)
