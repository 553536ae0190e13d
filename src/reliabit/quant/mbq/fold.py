"""Folding: `1 / scale` into the operation before, `scale` into the linear layers after; the function stays the same."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.groups import GROUPS, linear_at, sharing_of
from reliabit.quant.mbq.search import GroupScale

_BY_NAME = {group.name: group for group in GROUPS}


@torch.no_grad()
def fold_layer(layer: nn.Module, scales: Sequence[GroupScale], *, planned: Collection[str]) -> None:
    """Fold the scales of a layer into it.

    A norm keeps its type, and what rounding takes from it goes into the linear layers after it: they are scaled by
    the quotient of the norm's weights before and after, in float32.

    Args:
        layer: The layer; changed in place.
        scales: The scales of its groups.
        planned: Paths of the linear layers that will be quantized: those are left in float32, for the solver, where
            others go back to their own type.

    Raises:
        ReliabitError: A scale that is not above zero and finite, or of another width.
    """
    types = {path: linear_at(layer, path).weight.dtype for group in GROUPS for path in group.linears}
    for found in scales:
        _fold_group(layer, found)
    for path, dtype in types.items():
        linear = linear_at(layer, path)
        if path not in planned and linear.weight.dtype != dtype:
            _replace(linear, "weight", linear.weight.to(dtype))


def _fold_group(layer: nn.Module, found: GroupScale) -> None:
    group = _BY_NAME[found.group]
    previous, scale = layer.get_submodule(group.previous), found.scale
    where = f"{group.name} of decoder layer {found.layer}"
    weight = previous.get_parameter("weight")
    scale = scale.to(weight.device)
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise ReliabitError(f"the scale of {where} is not above zero everywhere; search it again")
    if len(scale) != len(weight):
        raise ReliabitError(f"the scale of {where} has {len(scale)} channels, and {group.previous} {len(weight)}")
    if isinstance(previous, nn.Linear):
        _replace(previous, "weight", weight.float() / scale[:, None])
        exact = scale
    else:
        exact = _fold_into_norm(previous, weight, scale)
    bias = getattr(previous, "bias", None)
    if isinstance(bias, Tensor):
        _replace(previous, "bias", (bias.float() / exact).to(bias.dtype))
    columns = sharing_of(layer, group).expand(exact)
    for path in group.linears:
        linear = linear_at(layer, path)
        _replace(linear, "weight", linear.weight.float() * columns)


def _fold_into_norm(norm: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """Divide a norm's weight, and return what it was really divided by."""
    folded = (weight.float() / scale).to(weight.dtype)
    _replace(norm, "weight", folded)
    return torch.where(folded != 0, weight.float() / folded.float(), scale)


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=False))
