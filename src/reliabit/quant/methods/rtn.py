"""Round to nearest: the grid spans each group from its smallest to its largest weight."""

import torch
from torch import Tensor

from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import Quantizer
from reliabit.quant.record import ZeroKind

_SMALLEST_RANGE = 1e-30


@QUANTIZERS.register("rtn")
class RoundToNearest(Quantizer):
    """Each weight goes to the nearest point of the grid between the extremes of its group."""

    def solve(self, groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        return min_max_grid(groups, bits=scheme.bits, zero=scheme.zero)


def min_max_grid(groups: Tensor, *, bits: int, zero: ZeroKind) -> tuple[Tensor, Tensor]:
    """The grid that spans each group: scale and zero, `[..., 1]`, of weights in float32, `[..., group_size]`.

    A float zero puts the ends of the grid on the smallest and the largest weight. An integer zero needs a grid that
    contains 0. A symmetric one spans the largest magnitude in half the range of the codes, as compressed-tensors does.

    Example:
        >>> scale, zero = min_max_grid(torch.tensor([[-1.0, 0.0, 2.0]]), bits=2, zero="float")
        >>> scale.item(), zero.item()
        (1.0, 1.0)
    """
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    codes = 2**bits - 1
    if zero == "symmetric":
        scale = _or_one(torch.maximum(-low, high) * 2 / codes)
        return scale, torch.full_like(scale, 2.0 ** (bits - 1))
    if zero == "integer":
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = _or_one((high - low) / codes)
        return scale, (-low / scale).round_().clamp_(0, codes)
    constant = high - low <= _SMALLEST_RANGE
    scale = torch.where(constant, _or_one(high.abs()), (high - low) / codes)
    return scale, -low.sub(constant * high.clamp_min(0)) / scale


def _or_one(scale: Tensor) -> Tensor:
    """A scale of 1 for a group in which every weight is 0: any other would do, and 1 is exact in every type."""
    return torch.where(scale > _SMALLEST_RANGE, scale, 1.0)
