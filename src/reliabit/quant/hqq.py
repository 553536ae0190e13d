"""Half-quadratic quantization with a float zero.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023): the scale is that of the
range, the zero minimises the p-norm (p < 1) of the error by half-quadratic splitting.
"""

import torch
from torch import Tensor

from reliabit.quant.grid import nearest_codes_
from reliabit.quant.rtn import min_max_grid

P_NORM = 0.7
BETA = 10.0


def solve_zero(
    groups: Tensor, *, bits: int, p_norm: float = P_NORM, beta: float = BETA, iterations: int = 20
) -> tuple[Tensor, Tensor]:
    """Solve the zero of each group, the scale being that of its range.

    Where the published algorithm stops when the mean error of the whole tensor stops falling and keeps the last zero,
    this keeps the best zero of each group, so that a group is never worse than where it started.

    Args:
        groups: Weights in float32, `[groups, group_size]`.
        bits: Bits of a code.
        p_norm: The norm of the error, at most 1.
        beta: Weight of the quadratic term.
        iterations: Largest number of steps.

    Returns:
        Scale and zero, each `[groups, 1]`.

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
    for _ in range(iterations):
        torch.add(scaled, zero, out=place)
        residual = place.sub_(nearest_codes_(codes.copy_(place), bits))
        error = torch.abs(residual, out=codes).sum(dim=1, keepdim=True)
        improved = error < best_error
        if not improved.any():
            break
        best_zero, best_error = torch.where(improved, zero, best_zero), torch.where(improved, error, best_error)
        zero = zero - _kept_by_shrinkage(residual, scale, error, p_norm=p_norm, beta=beta).mean(dim=1, keepdim=True)
    return scale, best_zero


def _kept_by_shrinkage(residual: Tensor, scale: Tensor, total: Tensor, *, p_norm: float, beta: float) -> Tensor:
    """What the generalised soft threshold leaves of the error to the zero, in steps of the grid.

    With `d` the error, `shrink(d) = sign(d) * max(|d| - |d|**(p - 1) / beta, 0)` is taken as an outlier, and
    `d - shrink(d) = sign(d) * min(|d|, |d|**(p - 1) / beta)` moves the zero. Below `beta**(-1 / (2 - p))` that is
    `d` itself, which is where all errors of an ordinary layer lie, so the power is rarely computed; the sum of a
    group's errors bounds the largest one at no cost.
    """
    harmless = beta ** (-1 / (2 - p_norm))
    if (total * scale).amax() <= harmless or (residual.abs().amax(dim=1, keepdim=True) * scale).amax() <= harmless:
        return residual
    error = residual * scale
    magnitude = error.abs().clamp_min_(1e-12)
    return error.sign() * torch.minimum(magnitude, magnitude.pow(p_norm - 1) / beta) / scale
