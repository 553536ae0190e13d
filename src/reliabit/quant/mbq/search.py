"""The scale search: for each group of each layer, the candidate with the smallest loss.

Candidates are judged as they will be quantized. Scales that suit rounding to nearest, which is what the published
search judges by, were worse than none at all before `hqq_plus` on both reference models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.quant.grid import dequantize, row_chunks
from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.calibration_statistics import LayerStatistics, Statistics
from reliabit.quant.mbq.decoder import Decoder, walk_observed
from reliabit.quant.mbq.groups import Observed, ScalingGroup, groups_with, linear_at, sharing_of
from reliabit.quant.mbq.losses import GramLoss, activation_magnitude
from reliabit.quant.mbq.output_loss import OutputLoss, Weighing, drawn_loss, full_loss
from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import quantize_weight
from reliabit.quant.settings import ScalingConfig

LayerSchemes = Mapping[str, Scheme]
"""The schemes of a decoder layer's linear layers, by their paths within it."""

_SMALLEST_SCALE = 1e-4
LARGEST_STACK = 2**20
"""Weights that are rounded at once, at most: small layers are rounded for many candidates in one operation."""


@dataclass(frozen=True)
class GroupScale:
    """The scale that a search chose for a group.

    Attributes:
        layer: The layer's number.
        group: The group's name.
        exponent: The exponent of the mean magnitude; 0 leaves the group as it is.
        scale: One factor for each channel of the previous operation, float32.
        sensitivity: The sensitivity ratio that image tokens were weighted with.
        loss_before: The loss without scaling.
        loss_after: The loss with the scale; never above `loss_before`.
    """

    layer: int
    group: str
    exponent: float
    scale: Tensor
    sensitivity: float
    loss_before: float
    loss_after: float


def search_layer(
    layer: nn.Module,
    index: int,
    *,
    schemes: LayerSchemes,
    statistics: Statistics,
    settings: ScalingConfig,
    seen: Sequence[Observed] | None = None,
    batches: Sequence[CalibrationBatch] = (),
) -> list[GroupScale]:
    """Search the scales of each group of a layer that holds a linear layer to be quantized.

    All are searched on the unquantized layer: on drawn tokens or, where `seen` says what the groups see in each of the
    `batches`, on all.
    """
    found, weighing = statistics.layer(index), Weighing(statistics, settings, index)
    schemes = judged(schemes)
    scales = []
    for group in groups_with(schemes):
        loss: OutputLoss | GramLoss
        if seen is None:
            loss = drawn_loss(layer, group, found, weighing)
        else:
            loss = full_loss(layer, group, seen, batches, weighing)
        scales.append(_search_group(layer, group, found, schemes, loss, weighing))
    return scales


def search_decoder(
    decoder: Decoder,
    schemes: Mapping[int, LayerSchemes],
    *,
    statistics: Statistics,
    settings: ScalingConfig,
    batches: Sequence[CalibrationBatch] = (),
) -> list[GroupScale]:
    """Search the scales of all layers that a plan names; only the faithful search looks at the batches."""
    scales: list[GroupScale] = []
    search = partial(search_layer, statistics=statistics, settings=settings)
    if settings.search != "faithful":
        for index, planned in schemes.items():
            with decoder.layer(index) as layer:
                scales += search(layer, index, schemes=planned)
        return scales

    def visit(index: int, layer: nn.Module, seen: list[Observed]) -> None:
        if index in schemes:
            scales.extend(search(layer, index, schemes=schemes[index], seen=seen, batches=batches))

    walk_observed(decoder, batches, visit)
    return scales


@torch.no_grad()
def _search_group(
    layer: nn.Module,
    group: ScalingGroup,
    found: LayerStatistics,
    schemes: LayerSchemes,
    loss: OutputLoss | GramLoss,
    weighing: Weighing,
) -> GroupScale:
    settings, counts, sharing = weighing.settings, weighing.statistics.tokens.counts, sharing_of(layer, group)
    ratio = weighing.ratio(group)
    magnitude = activation_magnitude(found.groups[group.name].magnitude, counts, ratio=ratio, settings=settings)
    scales = candidate_scales(sharing.reduce(magnitude), settings.ratios)
    spread = sharing.expand(scales)
    weights = {path: linear_at(layer, path).weight for path in group.linears}
    chosen: Sequence[int] = range(len(scales))
    if settings.search != "faithful" and len(scales) > settings.finalists:
        first = _losses(weights, spread, nearest(schemes), group, loss.pilot(), chosen)
        chosen = sorted({0, *sorted(first, key=lambda candidate: first[candidate])[: settings.finalists]})
    losses = _losses(weights, spread, schemes, group, loss, chosen)
    best = min(losses, key=lambda candidate: (losses[candidate], candidate))
    return GroupScale(
        layer=weighing.layer,
        group=group.name,
        exponent=best / settings.ratios,
        scale=scales[best],
        sensitivity=ratio,
        loss_before=losses[0],
        loss_after=losses[best],
    )


def _losses(
    weights: Mapping[str, Tensor],
    scales: Tensor,
    schemes: LayerSchemes,
    group: ScalingGroup,
    loss: OutputLoss | GramLoss,
    chosen: Sequence[int],
) -> dict[int, float]:
    """The loss of each chosen candidate, by its number."""
    streams = [rounded_weights(weights[path], scales[list(chosen)], schemes.get(path)) for path in group.linears]
    return {
        candidate: loss.judge(dict(zip(group.parameters, parts, strict=True)))
        for candidate, *parts in zip(chosen, *streams, strict=True)
    }


def candidate_scales(magnitude: Tensor, ratios: int) -> Tensor:
    """The scales of each exponent (MBQ's and AWQ's grid), float32 `[ratios, channels]`; the first scales nothing.

    They are powers of the channels' mean magnitudes, `[channels]`, divided by the geometric mean of their extremes.

    Example:
        >>> candidate_scales(torch.tensor([1.0, 16.0]), 2).tolist()
        [[1.0, 1.0], [0.5, 2.0]]
    """
    exponents = torch.arange(ratios, device=magnitude.device)[:, None] / ratios
    scales = magnitude.float().clamp_min(0).pow(exponents).clamp_min(_SMALLEST_SCALE)
    middle: Tensor = (scales.amax(dim=1, keepdim=True) * scales.amin(dim=1, keepdim=True)).sqrt()
    return scales / middle


def rounded_weights(weight: Tensor, scales: Tensor, scheme: Scheme | None) -> Iterator[Tensor]:
    """What is left of a weight, `[out_features, in_features]`, that is scaled, quantized and scaled back.

    One of `[candidates, in_features]` after the other is tried; without a scheme the weight stays as it is.

    Example:
        >>> scheme = Scheme("rtn", bits=2, group_size=None)
        >>> next(rounded_weights(torch.tensor([[0.0, 0.9, 3.0]]), torch.ones(1, 3), scheme))
        tensor([[0., 1., 3.]])
    """
    exact = weight.float()
    if scheme is None:
        yield from exact.expand(len(scales), -1, -1)
        return
    step = max(1, LARGEST_STACK // exact.numel())
    for part in torch.split(scales, step):
        stack = (exact * part[:, None]).flatten(0, 1)
        quantized = quantize_weight(stack, **scheme.arguments(), name="a scaled weight")
        for rows in row_chunks(stack.shape[0], stack.shape[1], stack.device):
            stack[rows] = dequantize(quantized.codes[rows], quantized.scale[rows], quantized.zero[rows])
        yield from stack.reshape(len(part), *exact.shape).div_(part[:, None])


def judged(schemes: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """How candidates are quantized to be judged: as they will be, or to nearest where that learns from inputs.

    The inputs of a layer are only known once all before it is scaled and quantized.
    """
    return {
        path: nearest({path: scheme})[path] if QUANTIZERS[scheme.method].needs_inputs else scheme
        for path, scheme in schemes.items()
    }


def nearest(schemes: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """The same grids, rounded to nearest: quick enough to try many candidates.

    Example:
        >>> nearest({"mlp.up_proj": Scheme("hqq_plus", bits=3)})["mlp.up_proj"].method
        'rtn'
    """
    own: dict[str, Any] = {"solver": "chunked", "p_norm": None, "iterations": None, "options": {}}
    return {path: replace(scheme, method="rtn", **own) for path, scheme in schemes.items()}
