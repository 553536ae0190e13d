"""Looking into a decoder layer while it runs: the inputs of its groups, and how its attention was called."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from reliabit.quant.mbq.groups import GROUPS


@dataclass
class Observed:
    """One pass through a layer.

    Attributes:
        inputs: The inputs of each group's linear layers, by name of the group, `[sequences, tokens, channels]`.
        attention: The keyword arguments of the attention, its hidden states left out.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Any] = field(default_factory=dict)


@contextmanager
def observing(layer: nn.Module) -> Iterator[Observed]:
    """Observe a layer; each pass within the block takes the place of the one before."""
    seen = Observed()

    def keep_inputs(name: str) -> Any:
        def hook(module: nn.Module, positional: tuple[Any, ...]) -> None:
            seen.inputs[name] = positional[0].detach()

        return hook

    def keep_keywords(module: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.attention = {name: value for name, value in keywords.items() if name != "hidden_states"}

    hooks = [layer.get_submodule(g.linears[0]).register_forward_pre_hook(keep_inputs(g.name)) for g in GROUPS]
    hooks.append(layer.get_submodule("self_attn").register_forward_pre_hook(keep_keywords, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
