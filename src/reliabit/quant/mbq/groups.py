"""The places in a decoder layer where a scale can be moved from one operation into the next, observed while it runs."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from reliabit.errors import ReliabitError

Sensitivity = Literal["attention", "mlp"]


@dataclass(frozen=True)
class ScalingGroup:
    """Linear layers that share their inputs, and the operation before them that can absorb `1 / scale`.

    Attributes:
        name: What the group is called in files and logs.
        previous: The norm or linear layer that produces the inputs, a path within the decoder layer.
        linears: The linear layers whose input columns are scaled.
        compared: The module whose output the search compares with its unquantized one.
        sensitivity: Which of a layer's two sensitivities holds for the output.
    """

    name: str
    previous: str
    linears: tuple[str, ...]
    compared: str
    sensitivity: Sensitivity

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the scaled weights within `compared`."""
        inside = (linear.removeprefix(self.compared).lstrip(".") for linear in self.linears)
        return tuple(f"{path}.weight" if path else "weight" for path in inside)


GROUPS = (
    ScalingGroup(
        name="qkv",
        previous="input_layernorm",
        linears=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        compared="self_attn",
        sensitivity="attention",
    ),
    ScalingGroup(
        name="output",
        previous="self_attn.v_proj",
        linears=("self_attn.o_proj",),
        compared="self_attn.o_proj",
        sensitivity="attention",
    ),
    ScalingGroup(
        name="gate_up",
        previous="post_attention_layernorm",
        linears=("mlp.gate_proj", "mlp.up_proj"),
        compared="mlp",
        sensitivity="mlp",
    ),
    ScalingGroup(
        name="down", previous="mlp.up_proj", linears=("mlp.down_proj",), compared="mlp.down_proj", sensitivity="mlp"
    ),
)
"""The groups of a Llama or Qwen2 decoder layer (MBQ, section 4; AWQ's `auto_scale`)."""


@dataclass(frozen=True)
class Sharing:
    """How channels of the previous operation reach the inputs of a group.

    With grouped-query attention one channel of `v_proj` reaches several inputs of `o_proj`, one in each query head
    that shares the value head; those inputs must share one scale.

    Attributes:
        heads: Value heads, or 1 where every channel reaches one input.
        repeats: Inputs that a channel reaches.
    """

    heads: int = 1
    repeats: int = 1

    def reduce(self, inputs: Tensor) -> Tensor:
        """The mean over the inputs that each channel reaches, `[..., inputs]` to `[..., channels]`.

        Example:
            >>> import torch
            >>> Sharing(heads=2, repeats=2).reduce(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))
            tensor([2., 3., 6., 7.])
        """
        if self.repeats == 1:
            return inputs
        split = inputs.reshape(*inputs.shape[:-1], self.heads, self.repeats, -1)
        return split.mean(dim=-2).flatten(-2)

    def expand(self, channels: Tensor) -> Tensor:
        """The scale of every input from that of every channel, `[..., channels]` to `[..., inputs]`.

        Example:
            >>> import torch
            >>> Sharing(heads=2, repeats=2).expand(torch.tensor([1.0, 2.0, 3.0, 4.0]))
            tensor([1., 2., 1., 2., 3., 4., 3., 4.])
        """
        if self.repeats == 1:
            return channels
        split = channels.reshape(*channels.shape[:-1], self.heads, 1, -1)
        return split.expand(*split.shape[:-2], self.repeats, -1).flatten(-3)


def sharing_of(layer: nn.Module, group: ScalingGroup) -> Sharing:
    """How the previous operation's channels reach a group's inputs."""
    if group.previous != "self_attn.v_proj":
        return Sharing()
    channels = linear_at(layer, group.previous).out_features
    repeats = linear_at(layer, group.linears[0]).in_features // channels
    head_size: int = layer.get_submodule("self_attn").head_dim  # type: ignore[assignment]
    return Sharing(heads=channels // head_size, repeats=repeats)


def linear_at(layer: nn.Module, path: str) -> nn.Linear:
    """A linear layer of a decoder layer."""
    module = layer.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise ReliabitError(f"{path} of a decoder layer is a {type(module).__name__}; scales need plain linear layers")
    return module


def check_layer(layer: nn.Module, *, name: str) -> None:
    """Refuse a decoder layer that lacks a module of a group, or a linear layer where one is needed."""
    for group in GROUPS:
        for path in (group.previous, *group.linears, group.compared):
            try:
                layer.get_submodule(path)
            except AttributeError as error:
                raise ReliabitError(
                    f"{name} has no module {path}; scales are searched in decoder layers built like Llama's"
                ) from error
        for path in group.linears:
            linear_at(layer, path)


def groups_with(linears: Collection[str]) -> tuple[ScalingGroup, ...]:
    """The groups that hold at least one of some linear layers, given by their paths within the decoder layer.

    Example:
        >>> [group.name for group in groups_with({"mlp.up_proj", "mlp.down_proj"})]
        ['gate_up', 'down']
    """
    return tuple(group for group in GROUPS if any(linear in linears for linear in group.linears))


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
        def hook(_: nn.Module, positional: tuple[Any, ...]) -> None:
            seen.inputs[name] = positional[0].detach()

        return hook

    def keep_keywords(_: nn.Module, _positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.attention = {name: value for name, value in keywords.items() if name != "hidden_states"}

    hooks = [layer.get_submodule(g.linears[0]).register_forward_pre_hook(keep_inputs(g.name)) for g in GROUPS]
    hooks.append(layer.get_submodule("self_attn").register_forward_pre_hook(keep_keywords, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
