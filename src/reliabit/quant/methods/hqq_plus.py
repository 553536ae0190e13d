"""HQQ+: scale and float zero of a group solved together by alternating least squares.

Given the codes, scale and zero are the regression of the weights on the codes; given scale and zero, the codes are
the nearest ones. Norms other than 2 reweight the regression by `|error|**(p - 2)` (iteratively reweighted least
squares). Unlike HQQ the scale is solved too, which at 2 and 3 bits is most of the gain.
"""

import torch
from torch import Tensor

from reliabit.quant.grid import nearest_codes_
from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.methods._constrained import power_error, regression_weights, search_grid
from reliabit.quant.methods.rtn import min_max_grid
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import Quantizer

_STARTS = (1.0, 0.85, 0.7, 0.55)
"""Where the alternation starts: the range of the group, shrunk around its middle.

It only finds a local optimum. Against the whole range alone, four starts of 10 steps lower the root mean square error
by 1 % at 2 bits and 2.5 % at 3, on normal and on heavy-tailed weights, and the 0.7-norm by more than 5 %.
"""

_SMALLEST_SCALE = 1e-30


@QUANTIZERS.register("hqq_plus")
class HqqPlus(Quantizer):
    """Alternating least squares on scale and float zero; under a constraint, the search that knows it."""

    def solve(self, groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        if scheme.zero != "float":
            return search_grid(groups, bits=scheme.bits, zero=scheme.zero, **scheme.search_options)
        return solve_scale_and_zero(groups, bits=scheme.bits, **scheme.search_options)


def solve_scale_and_zero(
    groups: Tensor, *, bits: int, p_norm: float = 2.0, iterations: int = 10, importance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Solve scale and zero, `[groups, 1]`, of `[groups, group_size]`, keeping the best of all steps.

    `importance`, `[group_size]`, says what the square error of each place in a group counts, where not the same.

    Example:
        >>> weights = torch.tensor([[-1.0, -0.9, 0.1, 0.2, 1.1, 1.2, 2.1, 2.2]])
        >>> scale, zero = solve_scale_and_zero(weights, bits=2)
        >>> round(scale.item(), 3), round(zero.item(), 3)
        (1.03, 0.893)
    """
    range_scale, range_zero = min_max_grid(groups, bits=bits, zero="float")
    middle = (2**bits - 1) / 2
    best_scale, best_zero = range_scale, range_zero
    best_error = torch.full_like(range_scale, torch.inf)
    for start in _STARTS:
        scale, zero = range_scale * start, middle - (middle - range_zero) / start
        error = torch.full_like(best_error, torch.inf)
        for _ in range(iterations):
            codes = nearest_codes_((groups / scale).add_(zero), bits)
            residual = ((codes - zero).mul_(scale).sub_(groups)).abs_()
            previous, error = error, power_error(residual, p_norm, importance)
            improved = error < best_error
            best_error = torch.where(improved, error, best_error)
            best_scale, best_zero = torch.where(improved, scale, best_scale), torch.where(improved, zero, best_zero)
            if not (error < previous).any():
                break
            weights = regression_weights(residual, p_norm, importance)
            scale, zero = _regress(groups, codes, weights, scale, zero)
    return best_scale, best_zero


def _regress(
    groups: Tensor, codes: Tensor, weights: Tensor | None, scale: Tensor, zero: Tensor
) -> tuple[Tensor, Tensor]:
    """Fit `groups = scale * (codes - zero)`; a group that uses one code only keeps its grid."""
    if weights is None:
        code_mean, mean = codes.mean(dim=1, keepdim=True), groups.mean(dim=1, keepdim=True)
        centred = codes.sub_(code_mean)
        variance = torch.linalg.vecdot(centred, centred).unsqueeze(1)
        covariance = torch.linalg.vecdot(centred, groups).unsqueeze(1)
    else:
        total = weights.sum(dim=1, keepdim=True)
        code_mean = torch.linalg.vecdot(weights, codes).unsqueeze(1) / total
        mean = torch.linalg.vecdot(weights, groups).unsqueeze(1) / total
        centred = codes.sub_(code_mean)
        weighted = weights * centred
        variance = torch.linalg.vecdot(weighted, centred).unsqueeze(1)
        covariance = torch.linalg.vecdot(weighted, groups).unsqueeze(1)
    fitted = covariance / variance
    usable = (variance > 0) & (fitted.abs() > _SMALLEST_SCALE)
    new_scale = torch.where(usable, fitted, scale)
    return new_scale, torch.where(usable, code_mean - mean / new_scale, zero)
