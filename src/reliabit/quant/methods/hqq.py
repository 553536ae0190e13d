"""Half-quadratic quantization with a float zero.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023): the scale is that of the
range, the zero minimises the p-norm (p < 1) of the error by half-quadratic splitting.
"""

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.grid import QuantizedWeight, nearest_codes_
from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.methods._constrained import search_grid
from reliabit.quant.methods.rtn import min_max_grid
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import Quantizer, put_on_grid

_P_NORM = 0.7
_BETA = 10.0
_LIBRARY_BITS = (1, 2, 3, 4, 5, 6, 8)


@QUANTIZERS.register("hqq")
class Hqq(Quantizer):
    """The published algorithm, here or by its library; under a constraint, the search that knows it."""

    def solve(self, groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        if scheme.zero != "float":
            return search_grid(groups, bits=scheme.bits, zero=scheme.zero, **scheme.search_options)
        return solve_zero(groups, bits=scheme.bits, **scheme.search_options)

    def solve_together(self, chunks: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        if scheme.zero != "float":
            return super().solve_together(chunks, scheme)
        scale, zero = solve_zero(chunks, bits=scheme.bits, **scheme.search_options)
        return scale.flatten(0, 1), zero.flatten(0, 1)

    def quantize(self, weight: Tensor, scheme: Scheme, *, name: str) -> QuantizedWeight:
        if scheme.solver != "library":
            return super().quantize(weight, scheme, name=name)
        scale, zero = solve_with_library(weight, bits=scheme.bits, group_size=scheme.group_size, name=name)
        return put_on_grid(weight, scale, zero, scheme, name=name)


def solve_zero(
    groups: Tensor, *, bits: int, p_norm: float = _P_NORM, beta: float = _BETA, iterations: int = 20
) -> tuple[Tensor, Tensor]:
    """Solve the zero of each group of `[..., groups, group_size]`, the scale being that of its range.

    Returns scales and zeros, `[..., groups, 1]`. Chunks of groups before the last two dimensions are solved side by
    side, each until none of its groups improves.

    Where the published algorithm stops when the mean error of the whole tensor stops falling and keeps the last zero,
    this keeps the best zero of each group, so that a group is never worse than where it started. `beta` weighs the
    quadratic term; `p_norm` is at most 1.

    Example:
        >>> weights = torch.tensor([[-1.0, 0.1, 0.2, 3.0]])
        >>> scale, zero = solve_zero(weights, bits=2)
        >>> bool(0 <= zero.item() <= 3), round(scale.item(), 4)
        (True, 1.3333)
    """
    scale, zero = min_max_grid(groups, bits=bits, zero="float")
    if bits == 4:
        # The library starts 4 bits from a whole zero; keeping that keeps its choice among equal errors.
        zero = zero.round()
    scaled = groups / scale
    place, codes = torch.empty_like(scaled), torch.empty_like(scaled)
    best_zero, best_error = zero.clone(), torch.full_like(zero, torch.inf)
    running = torch.ones_like(zero[..., :1, :], dtype=torch.bool)
    for _ in range(iterations):
        torch.add(scaled, zero, out=place)
        residual = place.sub_(nearest_codes_(codes.copy_(place), bits))
        error = torch.abs(residual, out=codes).sum(dim=-1, keepdim=True)
        improved = (error < best_error).logical_and_(running)
        running = improved.any(dim=-2, keepdim=True)
        if not running.any():
            break
        best_zero, best_error = torch.where(improved, zero, best_zero), torch.where(improved, error, best_error)
        zero = zero - _kept_by_shrinkage(residual, scale, error, p_norm=p_norm, beta=beta).mean(dim=-1, keepdim=True)
    return scale, best_zero


def _kept_by_shrinkage(residual: Tensor, scale: Tensor, total: Tensor, *, p_norm: float, beta: float) -> Tensor:
    """What the generalised soft threshold leaves of the error to the zero, in steps of the grid.

    With `d` the error, `shrink(d) = sign(d) * max(|d| - |d|**(p - 1) / beta, 0)` is taken as an outlier, and
    `d - shrink(d) = sign(d) * min(|d|, |d|**(p - 1) / beta)` moves the zero. Below `beta**(-1 / (2 - p))` that is
    `d` itself, which is where all errors of an ordinary layer lie, so the power is rarely computed; the sum of a
    group's errors bounds the largest one at no cost.
    """
    bound = beta ** (-1 / (2 - p_norm))
    if (total * scale).amax() <= bound:
        return residual
    harmless = (residual.abs().amax(dim=-1, keepdim=True) * scale).amax(dim=-2, keepdim=True) <= bound
    if harmless.all():
        return residual
    error = residual * scale
    magnitude = error.abs().clamp_min_(1e-12)
    kept = error.sign() * torch.minimum(magnitude, magnitude.pow(p_norm - 1) / beta) / scale
    return torch.where(harmless, residual, kept)


def solve_with_library(weight: Tensor, *, bits: int, group_size: int | None, name: str) -> tuple[Tensor, Tensor]:
    """Scale and zero, `[groups, 1]`, of `[out_features, in_features]` by `hqq.core.quantize.Quantizer`."""
    if bits not in _LIBRARY_BITS:
        raise ReliabitError(f"{name}: the library hqq has no {bits} bits; choose from {_LIBRARY_BITS}")
    from hqq.core.quantize import Quantizer

    _, meta = Quantizer.quantize(
        weight.float(),
        nbits=bits,
        group_size=group_size or weight.shape[1],
        axis=1,
        round_zero=bits == 4,
        bitpack=False,
        compute_dtype=torch.float32,
        device=str(weight.device),
    )
    return meta["scale"].reshape(-1, 1).clone(), meta["zero"].reshape(-1, 1).clone()
