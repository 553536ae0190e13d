"""Grids under a constraint: a zero fixed in the middle of the codes, or on a code.

Scale and zero are solved for the constraint from the start; rounding a solved float zero would undo what it gained.
The extreme weight decides where the search starts, shrinking the grid trades its error for that of all others. Both
HQQ methods come here: with its one variable gone, HQQ has nothing left to solve but the scale.
"""

import torch
from torch import Tensor

from reliabit.quant.grid import nearest_codes_
from reliabit.quant.methods.rtn import min_max_grid
from reliabit.quant.record import ZeroKind

_SHRINK_STEPS = 24
_SHRINK_RANGE = (0.5, 1.05)

_SMALLEST_SCALE = 1e-30
_SMALLEST_ERROR = 0.1


def search_grid(
    groups: Tensor,
    *,
    bits: int,
    zero: ZeroKind,
    p_norm: float = 2.0,
    iterations: int = 10,
    importance: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Search the scale of each group over shrunken ranges, then refine it by least squares, keeping the best.

    `importance`, `[group_size]`, says what the square error of each place in a group counts, where not the same.

    From weights `[groups, group_size]` to scale and zero, `[groups, 1]`. A symmetric scale may be negative, so that the
    extreme weight takes the longer side of the codes.

    Example:
        >>> scale, zero = search_grid(torch.tensor([[-1.0, 0.5, 2.0]]), bits=2, zero="symmetric")
        >>> round(scale.item(), 3), zero.item()
        (-0.917, 2.0)
    """
    search = _Search(groups, bits=bits, p_norm=p_norm, importance=importance)
    scale, offset = _start(groups, bits=bits, zero=zero)
    for shrink in torch.linspace(*_SHRINK_RANGE, _SHRINK_STEPS).tolist():
        for signed in (scale * shrink, scale * -shrink) if zero == "symmetric" else (scale * shrink,):
            search.try_grid(signed, offset if zero == "symmetric" else _integer_zero(groups, signed, bits))
    for _ in range(iterations):
        refined = search.refined_scale()
        if not search.try_grid(refined, offset if zero == "symmetric" else search.refined_zero(refined)):
            break
    return search.scale, search.zero


def _start(groups: Tensor, *, bits: int, zero: ZeroKind) -> tuple[Tensor, Tensor]:
    scale, offset = min_max_grid(groups, bits=bits, zero=zero)
    if zero == "symmetric":
        # The extreme weight on the outermost code of the longer side, 2**(bits - 1) steps from the zero.
        scale = scale * (2**bits - 1) / 2**bits
    return scale, offset


def _integer_zero(groups: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The whole zero that centres a shrunken grid on the range of the weights."""
    low, high = groups.amin(dim=1, keepdim=True).clamp_max(0), groups.amax(dim=1, keepdim=True).clamp_min(0)
    middle = (2**bits - 1) / 2
    return nearest_codes_(middle - (low + high) / 2 / scale, bits)


class _Search:
    """The best grid of each group so far."""

    def __init__(self, groups: Tensor, *, bits: int, p_norm: float, importance: Tensor | None) -> None:
        self.groups = groups
        self.bits = bits
        self.p_norm = p_norm
        self.importance = importance
        self.scale = self.zero = groups.new_ones((len(groups), 1))
        self.error = torch.full_like(self.scale, torch.inf)

    def try_grid(self, scale: Tensor, zero: Tensor) -> bool:
        """Keep a grid for the groups where it is better; say whether there were any."""
        error = power_error(self._residual(self._codes(scale, zero), scale, zero), self.p_norm, self.importance)
        improved = error < self.error
        self.scale, self.zero = torch.where(improved, scale, self.scale), torch.where(improved, zero, self.zero)
        self.error = torch.where(improved, error, self.error)
        return bool(improved.any())

    def refined_scale(self) -> Tensor:
        """The least-squares scale for the codes and zeros of the best grid."""
        codes = self._codes(self.scale, self.zero)
        weights = regression_weights(self._residual(codes, self.scale, self.zero), self.p_norm, self.importance)
        steps = codes - self.zero
        weighted = steps if weights is None else steps * weights
        power = torch.linalg.vecdot(weighted, steps).unsqueeze(1)
        fitted = torch.linalg.vecdot(weighted, self.groups).unsqueeze(1) / power
        return torch.where((power > 0) & (fitted != 0), fitted, self.scale)

    def refined_zero(self, scale: Tensor) -> Tensor:
        """The whole zero that takes out the mean error of the best codes."""
        codes = self._codes(self.scale, self.zero)
        places = codes - self.groups / scale
        if self.importance is not None:
            places = places * (self.importance / self.importance.mean())
        return nearest_codes_(places.mean(dim=1, keepdim=True), self.bits)

    def _codes(self, scale: Tensor, zero: Tensor) -> Tensor:
        return nearest_codes_((self.groups / scale).add_(zero), self.bits)

    def _residual(self, codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        residual: Tensor = (codes - zero).mul_(scale).sub_(self.groups).abs_()
        return residual


def power_error(residual: Tensor, p_norm: float, importance: Tensor | None = None) -> Tensor:
    """Sum of the p-th powers of errors, not negative, `[groups, group_size]` to `[groups, 1]`.

    With `importance`, `[group_size]`, each counts what that says.

    Example:
        >>> power_error(torch.tensor([[1.0, 2.0]]), 2.0)
        tensor([[5.]])
    """
    if importance is not None:
        return (residual.pow(p_norm) @ importance).unsqueeze(1)
    if p_norm == 2:
        norm: Tensor = torch.linalg.vector_norm(residual, dim=1, keepdim=True)
        return norm.square_()
    powers = residual if p_norm == 1 else residual.pow(p_norm)
    return powers.sum(dim=1, keepdim=True)


def regression_weights(residual: Tensor, p_norm: float, importance: Tensor | None = None) -> Tensor | None:
    """Weights under which least squares minimises the p-norm of errors `[groups, group_size]`; None where all are 1.

    Errors below a tenth of the group's largest count as that: weights that are exact already would otherwise decide
    the regression, and the search would stand still.

    Example:
        >>> regression_weights(torch.tensor([[1.0, 0.5]]), 1.0)
        tensor([[1., 2.]])
    """
    if p_norm == 2:
        return None if importance is None else importance.expand_as(residual)
    largest = residual.amax(dim=1, keepdim=True).clamp_min(_SMALLEST_SCALE)
    weights: Tensor = (residual / largest).clamp_min_(_SMALLEST_ERROR).pow_(p_norm - 2)
    return weights if importance is None else weights * importance
