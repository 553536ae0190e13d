"""Scaling a decoder before it is quantized: search, then fold."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.calibration_statistics import Statistics
from reliabit.quant.mbq.decoder import ResidentDecoder
from reliabit.quant.mbq.groups import GROUPS, linear_at, sharing_of
from reliabit.quant.mbq.search import GroupScale, LayerSchemes, search_decoder
from reliabit.quant.plan import Scheme
from reliabit.quant.settings import ScalingConfig
from reliabit.settings import check

_BY_NAME = {group.name: group for group in GROUPS}


@dataclass(frozen=True)
class Calibration:
    """What `quantize_model` needs to scale a model first.

    Attributes:
        statistics: Of the model that is quantized.
        settings: The search.
        batches: The calibration set, for the faithful search alone.
    """

    statistics: Statistics
    settings: ScalingConfig = field(default_factory=lambda: ScalingConfig(search="fast"))
    batches: Sequence[CalibrationBatch] = ()

    def __post_init__(self) -> None:
        """Refuse settings that are none."""
        check(self.settings, key="quant.scaling")
        if self.settings.search == "none":
            raise ReliabitError("quant.scaling.search=none searches no scales; set fast or faithful, or calibrate not")


def scale_model(model: nn.Module, schemes: Mapping[str, Scheme], calibration: Calibration) -> list[GroupScale]:
    """Search scales for the decoder layers that a plan names, and fold them in once all are found.

    The function of the model stays the same, up to rounding in the type of its norms and biases; the linear layers
    that will be quantized are left in float32.
    """
    statistics = calibration.statistics
    decoder = ResidentDecoder(model, statistics.path)
    planned = by_layer(schemes, path=statistics.path, depth=decoder.depth)
    check_statistics(statistics, path=decoder.path, depth=decoder.depth)
    scales = search_decoder(
        decoder, planned, statistics=statistics, settings=calibration.settings, batches=calibration.batches
    )
    for index in planned:
        with decoder.layer(index) as layer:
            fold_layer(layer, [found for found in scales if found.layer == index], planned=planned[index])
    return scales


def by_layer(schemes: Mapping[str, Scheme], *, path: str, depth: int) -> dict[int, LayerSchemes]:
    """The schemes of the decoder's linear layers, by layer and path within it; refused where it has none.

    Example:
        >>> found = by_layer({"text.layers.1.mlp.up_proj": Scheme(), "lm_head": Scheme()}, path="text.layers", depth=2)
        >>> {layer: list(paths) for layer, paths in found.items()}
        {1: ['mlp.up_proj']}
    """
    found: dict[int, dict[str, Scheme]] = {}
    for index in range(depth):
        prefix = f"{path}.{index}."
        inside = {name.removeprefix(prefix): scheme for name, scheme in schemes.items() if name.startswith(prefix)}
        if inside:
            found[index] = inside
    if not found:
        raise ReliabitError(f"the plan quantizes nothing in {path}, so there is nothing to scale; leave scaling out")
    return dict(found)


def check_statistics(statistics: Statistics, *, path: str, depth: int) -> None:
    """Refuse the statistics of another decoder."""
    if (statistics.path, statistics.depth) != (path, depth):
        raise ReliabitError(
            f"the calibration statistics are of {statistics.depth} layers at {statistics.path}, and the model has "
            f"{depth} at {path}; calibrate again"
        )


@torch.no_grad()
def fold_layer(layer: nn.Module, scales: Sequence[GroupScale], *, planned: Collection[str]) -> None:
    """Fold the scales of a layer into it.

    A norm keeps its type, and what rounding takes from it goes into the linear layers after it: they are scaled by
    the quotient of the norm's weights before and after, in float32.

    Args:
        layer: The layer; changed in place.
        scales: The scales of its groups.
        planned: Paths of the linear layers that will be quantized: those are left in float32, for the solver, where
            others go back to their own type.

    Raises:
        ReliabitError: A scale that is not above zero and finite, or of another width.
    """
    types = {path: linear_at(layer, path).weight.dtype for group in GROUPS for path in group.linears}
    for found in scales:
        _fold_group(layer, found)
    for path, dtype in types.items():
        linear = linear_at(layer, path)
        if path not in planned and linear.weight.dtype != dtype:
            _replace(linear, "weight", linear.weight.to(dtype))


def _fold_group(layer: nn.Module, found: GroupScale) -> None:
    group = _BY_NAME[found.group]
    previous, scale = layer.get_submodule(group.previous), found.scale
    where = f"{group.name} of decoder layer {found.layer}"
    weight = previous.get_parameter("weight")
    scale = scale.to(weight.device)
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise ReliabitError(f"the scale of {where} is not above zero everywhere; search it again")
    if len(scale) != len(weight):
        raise ReliabitError(f"the scale of {where} has {len(scale)} channels, and {group.previous} {len(weight)}")
    if isinstance(previous, nn.Linear):
        _replace(previous, "weight", weight.float() / scale[:, None])
        exact = scale
    else:
        exact = _fold_into_norm(previous, weight, scale)
    bias = getattr(previous, "bias", None)
    if isinstance(bias, Tensor):
        _replace(previous, "bias", (bias.float() / exact).to(bias.dtype))
    columns = sharing_of(layer, group).expand(exact)
    for path in group.linears:
        linear = linear_at(layer, path)
        _replace(linear, "weight", linear.weight.float() * columns)


def _fold_into_norm(norm: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """Divide a norm's weight, and return what it was really divided by."""
    folded = (weight.float() / scale).to(weight.dtype)
    _replace(norm, "weight", folded)
    return torch.where(folded != 0, weight.float() / folded.float(), scale)


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=False))
