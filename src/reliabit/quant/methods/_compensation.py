"""Second-order error compensation: what rounding a weight does to the outputs is made good by the weights after it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022), after the
optimal brain surgeon: with `H` the second moments of the inputs, rounding input `j` by `e_j` costs least where the
inputs that are not rounded yet move by `-e_j / U_jj * U_j`, `U` the upper Cholesky factor of the inverse of `H`.

Li et al., "GPTAQ" (arXiv 2504.02692), add what the inputs themselves have drifted: where the unquantized model has
`x + d` in their place, `w_j d_j` is made good by the inputs after `j` as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.grid import nearest_codes_
from reliabit.quant.input_moments import InputMoments

_BLOCK = 128
_DAMPING_STEP = 10.0

GridOf = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""Scale and zero, `[rows, 1]` each, of a group given by number and its weights, `[rows, group_size]`."""


@dataclass(frozen=True)
class Factor:
    """Second moments as compensation needs them.

    Attributes:
        upper: Upper Cholesky factor of the inverse of the damped moments, `[inputs, inputs]`, inputs in `order`.
        order: The inputs in the order in which they are rounded, int64; None where that is their own.
        damping: The share of the mean diagonal that was added to the diagonal.
    """

    upper: Tensor
    order: Tensor | None
    damping: float


def factorize(second: Tensor, *, by_activation: bool, damping: float, largest_damping: float, name: str) -> Factor:
    """Damp and factorize second moments, `[inputs, inputs]`, in float32.

    Inputs that are always 0 say nothing: they are rounded as they are. Damping grows tenfold while the moments are not
    positive definite in float32. Of `H = R R'` with `R` upper triangular the factor is the inverse of `R`: one Cholesky
    factorization of the moments in reverse, and no inverse of them.

    Raises:
        ReliabitError: Moments that are not finite, or stay singular with the largest damping; `name` is named.
    """
    if not torch.isfinite(second).all():
        raise ReliabitError(
            f"{name}: the second moments of its inputs are not finite; set model.dtype=float32, or see whether the "
            "checkpoint is whole"
        )
    diagonal = second.diagonal()
    order = torch.argsort(diagonal, descending=True, stable=True) if by_activation else None
    ordered = second.clone() if order is None else second[order][:, order]
    places = ordered.diagonal()
    dead = places == 0
    mean = float(diagonal.mean()) or 1.0
    places[dead] = mean
    while damping <= largest_damping * (1 + 1e-6):
        damped = ordered.clone()
        damped.diagonal().add_(damping * mean)
        factor, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not failed and torch.isfinite(factor).all():
            root = factor.flip(0, 1)
            upper = torch.linalg.solve_triangular(root, torch.eye(len(root), device=root.device), upper=True)
            return Factor(upper, order, damping)
        damping *= _DAMPING_STEP
    raise ReliabitError(
        f"{name}: the second moments of its inputs are singular, even with {largest_damping:g} of their mean diagonal "
        "added; raise quant.calibration.images or quant.options.largest_damping"
    )


def residual_steps(residual: Tensor, factor: Factor, *, strength: float) -> Tensor:
    """What each input's drift moves the inputs after it by, per unit of its weight (GPTAQ), `[inputs, inputs]`.

    Row `j` is `strength * c_j (H_after)^-1` with `c_j` the residual moments of input `j` with the inputs after it.
    """
    ordered = residual if factor.order is None else residual[factor.order][:, factor.order]
    steps: Tensor = (ordered @ factor.upper.T).triu(1).mul_(strength) @ factor.upper
    return steps


@torch.no_grad()
def compensate(
    weight: Tensor, factor: Factor, grid_of: GridOf, *, bits: int, group_length: int, steps: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Round a weight, `[rows, inputs]` in float32, one input after the other.

    The grid of a group is asked for when its first input comes, with the weights of the group as they are then; where
    inputs are reordered, before any of them is rounded.

    Args:
        weight: The weight; it is not changed.
        factor: Of the inputs' moments.
        grid_of: Says the grid of each group.
        bits: Bits of a code.
        group_length: Inputs a group.
        steps: `residual_steps`, if the drift of the inputs is made good too.

    Returns:
        Codes uint8 `[rows, inputs]`, scale and zero `[rows, groups]` in float32.
    """
    rounding = _Rounding(weight, factor, grid_of, bits=bits, group_length=group_length, steps=steps)
    for start, stop in blocks(weight.shape[1], group_length):
        rounding.round(start, stop)
    return rounding.result()


class _Rounding:
    """A weight on its way; inputs are rows here, so that what belongs to one lies side by side."""

    def __init__(
        self, weight: Tensor, factor: Factor, grid_of: GridOf, *, bits: int, group_length: int, steps: Tensor | None
    ) -> None:
        rows, inputs = weight.shape
        self.factor, self.grid_of, self.bits, self.group_length, self.steps = factor, grid_of, bits, group_length, steps
        self.places = range(inputs) if factor.order is None else factor.order.tolist()
        self.work = weight.T.contiguous() if factor.order is None else weight.T[factor.order].contiguous()
        self.codes, self.diagonal = torch.empty_like(self.work), factor.upper.diagonal().tolist()
        self.scale, self.zero = weight.new_empty((2, inputs // group_length, rows)).unbind()
        self.errors, self.decoded = weight.new_empty((_BLOCK, rows)), weight.new_empty(rows)
        if factor.order is not None:
            for group, weights in enumerate(torch.split(weight, group_length, dim=1)):
                self._set_grid(group, weights)

    def round(self, start: int, stop: int) -> None:
        """Round a block of inputs, and let all inputs after it make good what that did."""
        work, upper, steps = self.work, self.factor.upper, self.steps
        if self.factor.order is None and start % self.group_length == 0:
            self._set_grid(start // self.group_length, work[start : start + self.group_length].T)
        for row in range(start, stop):
            done = row - start
            if done:
                # What inputs before it in the block ask for is added up when its turn comes.
                work[row].addmv_(self.errors[:done].T, upper[start:row, row], alpha=-1)
                if steps is not None:
                    work[row].addmv_(work[start:row].T, steps[start:row, row])
            self._round_input(row, error=self.errors[done])
        if stop < len(work):
            work[stop:].addmm_(upper[start:stop, stop:].T, self.errors[: stop - start], alpha=-1)
            if steps is not None:
                work[stop:].addmm_(steps[start:stop, stop:].T, work[start:stop])

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes in the order of the inputs, with scales and zeros."""
        codes = self.codes
        if self.factor.order is not None:
            codes = torch.empty_like(codes)
            codes[self.factor.order] = self.codes
        return codes.T.to(torch.uint8).contiguous(), self.scale.T.contiguous(), self.zero.T.contiguous()

    def _set_grid(self, group: int, weights: Tensor) -> None:
        scale, zero = self.grid_of(group, weights)
        self.scale[group], self.zero[group] = scale[:, 0], zero[:, 0]

    def _round_input(self, row: int, *, error: Tensor) -> None:
        group = self.places[row] // self.group_length
        scale, zero = self.scale[group], self.zero[group]
        places = torch.div(self.work[row], scale, out=self.codes[row]).add_(zero)
        torch.sub(nearest_codes_(places, self.bits), zero, out=self.decoded).mul_(scale)
        torch.sub(self.work[row], self.decoded, out=error).div_(self.diagonal[row])


def blocks(inputs: int, group_length: int) -> Iterator[tuple[int, int]]:
    """Cut inputs into blocks that are worked on before the rest is told of them; none straddles two groups.

    >>> list(blocks(192, 96)), list(blocks(192, 192))
    ([(0, 96), (96, 192)], [(0, 128), (128, 192)])
    """
    for group in range(0, inputs, group_length):
        for start in range(group, group + group_length, _BLOCK):
            yield start, min(start + _BLOCK, group + group_length)


@torch.no_grad()
def refit(
    weight: Tensor,
    codes: Tensor,
    scale: Tensor,
    zero: Tensor,
    moments: InputMoments,
    *,
    damping: float,
    strength: float,
    move_zero: bool,
    sweeps: int,
    usable: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Fit scales, and float zeros, to codes that stay as they are, one group after the other.

    With the codes given, the outputs' square error `(W - Q) H (W - Q)'` is quadratic in scale and offset of a group:
    the best of both has a closed form. Each step lowers the error; `usable` says which grids may be stored.

    Args:
        weight: The exact weight, `[rows, inputs]`.
        codes: uint8, `[rows, inputs]`.
        scale: `[rows, groups]`.
        zero: `[rows, groups]`.
        moments: Of the inputs.
        damping: The share of their mean diagonal that is added to it: inputs that are hardly there do not decide.
        strength: How far the drift of the inputs is made good.
        move_zero: Fit the zero too.
        sweeps: How often all groups are passed.
        usable: From scales and zeros, `[rows, 1]`, to bool.

    Returns:
        Scale and zero, `[rows, groups]`.
    """
    second, groups = moments.second.clone(), scale.shape[1]
    second.diagonal().add_(damping * second.diagonal().mean())
    length = weight.shape[1] // groups
    scale, zero, places = scale.clone(), zero.clone(), codes.float()
    spread = (places.reshape(len(places), groups, length) - zero[..., None]) * scale[..., None]
    pull = (weight - spread.flatten(1)) @ second
    if moments.residual is not None and strength:
        pull += strength * (weight @ moments.residual)
    for _ in range(sweeps):
        for group in range(groups):
            part = slice(group * length, (group + 1) * length)
            own, block, force = places[:, part], second[part, part], pull[:, part]
            found = _best_grid(own, scale[:, group, None], zero[:, group, None], block, force, move_zero=move_zero)
            kept = usable(*found)
            new_scale = torch.where(kept, found[0], scale[:, group, None])
            new_zero = torch.where(kept, found[1], zero[:, group, None])
            change = (own - new_zero) * new_scale - (own - zero[:, group, None]) * scale[:, group, None]
            pull.addmm_(change, second[part], alpha=-1)
            scale[:, group], zero[:, group] = new_scale[:, 0], new_zero[:, 0]
    return scale, zero


def _best_grid(
    codes: Tensor, scale: Tensor, zero: Tensor, block: Tensor, force: Tensor, *, move_zero: bool
) -> tuple[Tensor, Tensor]:
    """Scale and zero of one group, `[rows, 1]`, where the error's gradient by its weights, `-force`, vanishes on both.

    The group's weights are `scale * (codes - zero)`; they are looked for as `a * (codes - mean) + b`.
    """
    mean = codes.mean(dim=1, keepdim=True)
    if not move_zero:
        steps = codes - zero
        curvature = torch.linalg.vecdot(steps @ block, steps).unsqueeze(1)
        return scale + torch.linalg.vecdot(force, steps).unsqueeze(1) / curvature, zero
    steps = codes - mean
    bent = steps @ block
    both = bent.sum(dim=1, keepdim=True)
    slope, level = torch.linalg.vecdot(bent, steps).unsqueeze(1), block.sum()
    pulled, lifted = torch.linalg.vecdot(force, steps).unsqueeze(1), force.sum(dim=1, keepdim=True)
    determinant = slope * level - both.square()
    new_scale = scale + (level * pulled - both * lifted) / determinant
    offset = scale * (mean - zero) + (slope * lifted - both * pulled) / determinant
    return new_scale, mean - offset / new_scale
