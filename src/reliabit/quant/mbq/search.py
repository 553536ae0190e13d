"""The scale search: for each group of each layer, the candidate with the smallest loss.

Candidates are judged as they will be quantized. Scales that suit rounding to nearest, which is what the published
search judges by, were worse than none at all before `hqq_plus` on both reference models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reliabit.quant.mbq.batch import CalibrationBatch
from reliabit.quant.mbq.candidates import candidate_scales, nearest, rounded_weights
from reliabit.quant.mbq.decoder import Decoder
from reliabit.quant.mbq.evidence import Evidence, Weighing, drawn_evidence, full_evidence, walk_observed
from reliabit.quant.mbq.gram import GramEvidence
from reliabit.quant.mbq.groups import ScalingGroup, groups_with, linear_at, sharing_of
from reliabit.quant.mbq.losses import activation_magnitude
from reliabit.quant.mbq.observation import Observed
from reliabit.quant.mbq.settings import SearchSettings
from reliabit.quant.mbq.statistics import LayerStatistics
from reliabit.quant.mbq.store import Statistics
from reliabit.quant.plan import Scheme

LayerSchemes = Mapping[str, Scheme]
"""The schemes of a decoder layer's linear layers, by their paths within it."""


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
    settings: SearchSettings,
    seen: Sequence[Observed] | None = None,
    batches: Sequence[CalibrationBatch] = (),
) -> list[GroupScale]:
    """Search the scales of one layer; all groups are searched on the unquantized layer.

    Args:
        layer: The layer, unquantized.
        index: Its number.
        schemes: How its linear layers will be quantized.
        statistics: Calibration statistics.
        settings: The search.
        seen: For the faithful search, what the layer's groups see in each batch.
        batches: For the faithful search, the calibration set.

    Returns:
        One scale for each group that holds a layer to be quantized.
    """
    found, weighing = statistics.layer(index), Weighing(statistics, settings, index)
    scales = []
    for group in groups_with(schemes):
        evidence: Evidence | GramEvidence
        if seen is None:
            evidence = drawn_evidence(layer, group, found, weighing)
        else:
            evidence = full_evidence(layer, group, seen, batches, weighing)
        scales.append(_search_group(layer, group, found, schemes, evidence, weighing))
    return scales


def search_decoder(
    decoder: Decoder,
    schemes: Mapping[int, LayerSchemes],
    *,
    statistics: Statistics,
    settings: SearchSettings,
    batches: Sequence[CalibrationBatch] = (),
) -> list[GroupScale]:
    """Search the scales of all layers that a plan names.

    Args:
        decoder: The unquantized decoder.
        schemes: By number of the layer.
        statistics: Calibration statistics of this decoder.
        settings: The search.
        batches: The calibration set, for the faithful search alone.

    Raises:
        ReliabitError: Missing statistics, or a faithful search without batches.
    """
    scales: list[GroupScale] = []
    if settings.mode == "fast":
        for index, planned in schemes.items():
            with decoder.layer(index) as layer:
                scales += search_layer(layer, index, schemes=planned, statistics=statistics, settings=settings)
        return scales

    def visit(index: int, layer: nn.Module, seen: list[Observed]) -> None:
        if index in schemes:
            scales.extend(
                search_layer(
                    layer,
                    index,
                    schemes=schemes[index],
                    statistics=statistics,
                    settings=settings,
                    seen=seen,
                    batches=batches,
                )
            )

    walk_observed(decoder, batches, visit)
    return scales


@torch.no_grad()
def _search_group(
    layer: nn.Module,
    group: ScalingGroup,
    found: LayerStatistics,
    schemes: LayerSchemes,
    evidence: Evidence | GramEvidence,
    weighing: Weighing,
) -> GroupScale:
    settings, counts, sharing = weighing.settings, weighing.statistics.tokens.counts, sharing_of(layer, group)
    ratio = weighing.ratio(group)
    magnitude = activation_magnitude(found.groups[group.name].magnitude, counts, ratio=ratio, settings=settings)
    scales = candidate_scales(sharing.reduce(magnitude), settings.ratios)
    spread = sharing.expand(scales)
    weights = {path: linear_at(layer, path).weight for path in group.linears}
    chosen: Sequence[int] = range(len(scales))
    if settings.mode == "fast" and len(scales) > settings.finalists:
        first = _losses(weights, spread, nearest(schemes), group, evidence.pilot(), chosen)
        chosen = sorted({0, *sorted(first, key=lambda candidate: first[candidate])[: settings.finalists]})
    losses = _losses(weights, spread, schemes, group, evidence, chosen)
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
    evidence: Evidence | GramEvidence,
    chosen: Sequence[int],
) -> dict[int, float]:
    """The loss of each chosen candidate, by its number."""
    streams = [rounded_weights(weights[path], scales[list(chosen)], schemes.get(path)) for path in group.linears]
    return {
        candidate: evidence.judge(dict(zip(group.parameters, parts, strict=True)))
        for candidate, *parts in zip(chosen, *streams, strict=True)
    }
