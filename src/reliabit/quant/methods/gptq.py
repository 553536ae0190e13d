"""GPTQ: error compensation by the second moments of a layer's inputs, over our grids; see `_compensation`."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.grid import Layout, QuantizedWeight, metadata_type
from reliabit.quant.input_moments import InputMoments, InputNeeds
from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.methods._compensation import Factor, compensate, factorize, refit, residual_steps
from reliabit.quant.methods._constrained import search_grid
from reliabit.quant.methods.hqq_plus import solve_scale_and_zero
from reliabit.quant.methods.rtn import min_max_grid
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import Quantizer
from reliabit.quant.record import MetadataType
from reliabit.settings import choice, positive

_ROWS = 2048
"""Rows whose groups are solved at a time."""

_ITERATIONS = 4
"""Steps of a grid's search: ten lower the outputs' error by another percent, and take as long as all the rest."""

_SMALLEST_IMPORTANCE = 1e-3


@dataclass
class GptqSettings:
    """`quant.options` of this method.

    Attributes:
        grid: How scale and zero of a group are found: `minmax` as published, `hqq_plus` by least squares of the weight
            error, `weighted` by that with each input's error counted as its second moment.
        order: `none`, or `activation`: inputs with the largest second moments first. Grids are then those of the exact
            weights (static groups), so that codes are stored in the order of the inputs.
        refit: How often scales and float zeros are fitted anew to the codes, by the outputs' error; 0 as published.
        damping: The share of the moments' mean diagonal that is added to their diagonal.
        largest_damping: Up to which it grows tenfold where they are singular.
        residual: How far the drift of the inputs from those of the unquantized model is made good (GPTAQ), 0 to 1.
        weighting: What each token counts: `none`, by its `modality`, or each `token` by its own gradient.
    """

    grid: str = choice("minmax", "hqq_plus", "weighted", default="weighted")
    order: str = choice("none", "activation", default="activation")
    refit: int = 1
    damping: float = positive(default=0.01)
    largest_damping: float = positive(default=1.0)
    residual: float = 0.0
    weighting: str = choice("none", "modality", "token", default="none")

    def check(self, key: str) -> None:
        """See `reliabit.settings.check`."""
        if self.refit < 0:
            raise ReliabitError(
                f"{key}.refit={self.refit} is below 0; set how often scales are fitted anew, 0 for never"
            )
        if not 0 <= self.residual <= 1:
            raise ReliabitError(f"{key}.residual={self.residual} is outside 0 to 1")
        if self.damping > self.largest_damping:
            raise ReliabitError(
                f"{key}.damping={self.damping} is above {key}.largest_damping={self.largest_damping}; lower it"
            )


@QUANTIZERS.register("gptq")
class Gptq(Quantizer):
    """Rounds input by input, and lets the inputs after each make good what that did to the outputs."""

    options = GptqSettings
    needs_inputs = True

    def input_needs(self) -> InputNeeds:
        """Moments with the tokens weighted, and the residual ones, as the settings say."""
        return InputNeeds(self.settings.weighting, residual=self.settings.residual > 0)

    def quantize_with(self, weight: Tensor, scheme: Scheme, inputs: InputMoments, *, name: str) -> QuantizedWeight:
        exact = weight.float()
        factor, steps = self._factor(inputs, name=name)
        quantized = self._quantize(exact, scheme, inputs, factor, steps, metadata=scheme.metadata or "float16")
        if scheme.metadata is None and metadata_type(quantized.scale.float(), quantized.zero.float()) == "float32":
            quantized = self._quantize(exact, scheme, inputs, factor, steps, metadata="float32")
        if not (torch.isfinite(quantized.scale).all() and torch.isfinite(quantized.zero).all()):
            raise ReliabitError(f"{name}: its weights are too large for float32 arithmetic")
        return quantized

    def _factor(self, inputs: InputMoments, *, name: str) -> tuple[Factor, Tensor | None]:
        """The factor of the moments and the steps of the residual ones, made once for all layers with these inputs."""
        settings = self.settings
        key = (settings.order, settings.damping, settings.largest_damping, settings.residual)
        if key not in inputs.shared:
            factor = factorize(
                inputs.second,
                by_activation=settings.order == "activation",
                damping=settings.damping,
                largest_damping=settings.largest_damping,
                name=name,
            )
            steps = None
            if settings.residual > 0 and inputs.residual is not None:
                steps = residual_steps(inputs.residual, factor, strength=settings.residual)
            inputs.shared[key] = factor, steps
        found: tuple[Factor, Tensor | None] = inputs.shared[key]
        return found

    def _quantize(
        self,
        weight: Tensor,
        scheme: Scheme,
        inputs: InputMoments,
        factor: Factor,
        steps: Tensor | None,
        *,
        metadata: MetadataType,
    ) -> QuantizedWeight:
        """Quantize with scales and zeros rounded to the type that they are stored in, so that this is made good too."""
        layout = Layout(scheme.bits, scheme.group_size, scheme.zero, metadata)
        length, dtype = layout.group_length(weight.shape[1]), layout.metadata_dtype
        importance = inputs.second.diagonal()
        importance = importance / importance.mean().clamp_min(torch.finfo(importance.dtype).tiny)

        def grid_of(group: int, weights: Tensor) -> tuple[Tensor, Tensor]:
            counted = importance[group * length : (group + 1) * length].clamp_min(_SMALLEST_IMPORTANCE)
            found = [self._solve(rows.contiguous(), scheme, counted) for rows in torch.split(weights, _ROWS)]
            scale, zero = torch.cat([scale for scale, _ in found]), torch.cat([zero for _, zero in found])
            return scale.to(dtype).float(), zero.to(dtype).float()

        codes, scale, zero = compensate(weight, factor, grid_of, bits=scheme.bits, group_length=length, steps=steps)
        if self.settings.refit:
            scale, zero = refit(
                weight,
                codes,
                scale,
                zero,
                inputs,
                damping=factor.damping,
                strength=self.settings.residual,
                move_zero=scheme.zero == "float",
                sweeps=self.settings.refit,
                usable=partial(_usable, metadata=metadata),
            )
        return QuantizedWeight(codes, scale.to(dtype), zero.to(dtype), layout)

    def _solve(self, groups: Tensor, scheme: Scheme, importance: Tensor) -> tuple[Tensor, Tensor]:
        if self.settings.grid == "minmax":
            return min_max_grid(groups, bits=scheme.bits, zero=scheme.zero)
        options = {"iterations": _ITERATIONS, **scheme.search_options}
        if self.settings.grid == "weighted":
            options["importance"] = importance
        if scheme.zero == "float":
            return solve_scale_and_zero(groups, bits=scheme.bits, **options)
        return search_grid(groups, bits=scheme.bits, zero=scheme.zero, **options)


def _usable(scale: Tensor, zero: Tensor, *, metadata: MetadataType) -> Tensor:
    """Which grids, `[rows, 1]`, may be stored as `metadata` without harm; bfloat16 holds all that float32 does."""
    finite = torch.isfinite(scale) & torch.isfinite(zero) & (scale != 0)
    if metadata != "float16":
        return finite
    return finite & (scale.abs() >= 2.0**-20) & (scale.abs() <= 65504.0) & (zero.abs() <= 2048.0)
