"""Judging scales after the fact: what the faithful search would say of them."""

from collections.abc import Mapping, Sequence

from torch import nn

from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.calibration_statistics import Statistics
from reliabit.quant.mbq.decoder import Decoder, walk_observed
from reliabit.quant.mbq.groups import GROUPS, Observed, linear_at, sharing_of
from reliabit.quant.mbq.output_loss import Weighing, full_loss
from reliabit.quant.mbq.search import GroupScale, LayerSchemes, rounded_weights
from reliabit.quant.settings import ScalingConfig


def judge_scales(
    decoder: Decoder,
    scales: Sequence[GroupScale],
    schemes: Mapping[int, LayerSchemes],
    *,
    statistics: Statistics,
    settings: ScalingConfig,
    batches: Sequence[CalibrationBatch],
) -> float:
    """The loss of some scales on every token of a calibration set, summed over their groups.

    Args:
        decoder: The unquantized decoder, its scales not folded.
        scales: The scales, however they were found.
        schemes: How the linear layers will be quantized, by layer.
        statistics: For the weights of tokens.
        settings: For the weights of tokens and the kind of loss.
        batches: The calibration set.
    """
    groups = {group.name: group for group in GROUPS}
    losses: list[float] = []

    def visit(index: int, layer: nn.Module, seen: list[Observed]) -> None:
        for found in (scale for scale in scales if scale.layer == index):
            group = groups[found.group]
            loss = full_loss(layer, group, seen, batches, Weighing(statistics, settings, index))
            columns = sharing_of(layer, group).expand(found.scale)[None]
            stacks = [
                rounded_weights(linear_at(layer, path).weight.detach(), columns, schemes[index].get(path))
                for path in group.linears
            ]
            losses.append(loss.judge(dict(zip(group.parameters, map(next, stacks), strict=True))))

    walk_observed(decoder, batches, visit)
    return sum(losses)
