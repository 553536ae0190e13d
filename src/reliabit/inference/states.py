"""What a confidence estimator may see of the answering pass: the decoder's states over the prompt, pooled.

The states come from the pass that answers; nothing is run twice. The three vectors are those of arXiv 2602.13289: image
states and question states, each pooled by their maximum, and the state that the first answer token is read from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from reliabit.errors import ReliabitError
from reliabit.inference.packing import PackedPrompts
from reliabit.models.families import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PooledStates:
    """One vector of each kind a question, `[questions, width]`.

    Attributes:
        image: The largest value of each channel over the image tokens; zeros where there are none.
        question: The same over the tokens of the question itself.
        first: The state at the last token of the prompt, from which the first answer token is predicted.
    """

    image: torch.Tensor
    question: torch.Tensor
    first: torch.Tensor


def pool_states(states: torch.Tensor, packed: PackedPrompts) -> PooledStates:
    """Pool the states of packed prompts, for each question in the order of its batch.

    Attention is causal: an image's states do not depend on what is asked, and serve every question of a row.

    Args:
        states: `[rows, tokens, width]`.
        packed: The prompts that they are of.
    """
    places = list(zip(packed.starts, packed.ends, strict=True))
    questions = [_largest(states[:, start:end], packed.question_tokens[:, start:end]) for start, end in places]
    return PooledStates(
        image=_largest(states, packed.image_tokens)[packed.row_of],
        question=packed.of_questions(torch.stack(questions, dim=1)),
        first=packed.of_questions(states[:, [end - 1 for _, end in places]]),
    )


def _largest(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    pooled = states.masked_fill(~where.unsqueeze(-1), float("-inf")).amax(1)
    return torch.where(where.any(1, keepdim=True), pooled, torch.zeros_like(pooled))


def state_module(model: "PreTrainedModel", adapter: Adapter, *, layer: int | None) -> nn.Module:
    """The module whose output the states are.

    Args:
        model: The model.
        adapter: Its family.
        layer: A decoder layer, negative numbers counting from the last; `None` for the norm after all of them, whose
            output the head reads.

    Raises:
        ReliabitError: There is no such layer.
    """
    language: nn.Module = model
    if layer is None:
        return language.get_submodule(adapter.final_norm)
    layers = list(language.get_submodule(adapter.decoder_layers).children())
    if not -len(layers) <= layer < len(layers):
        raise ReliabitError(
            f"confidence.features.layer={layer} does not exist; the decoder has layers 0 to {len(layers) - 1}"
        )
    return layers[layer]


@contextmanager
def prompt_states(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Keep the first output of a module: over the whole prompt; later ones are of single generated tokens.

    Yields:
        A list that holds the output, `[rows, tokens, width]`, once the model has run.
    """
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        if not kept:
            kept.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()
