"""Scaling a model in memory before it is quantized: search, then fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.batch import CalibrationBatch
from reliabit.quant.mbq.decoder import ResidentDecoder
from reliabit.quant.mbq.fold import fold_layer
from reliabit.quant.mbq.search import GroupScale, LayerSchemes, search_decoder
from reliabit.quant.mbq.settings import SearchSettings
from reliabit.quant.mbq.store import Statistics
from reliabit.quant.plan import Scheme


@dataclass(frozen=True)
class Calibration:
    """What `quantize_model` needs to scale a model first.

    Attributes:
        statistics: Of the model that is quantized.
        settings: The search.
        batches: The calibration set, for the faithful search alone.
    """

    statistics: Statistics
    settings: SearchSettings = field(default_factory=SearchSettings)
    batches: Sequence[CalibrationBatch] = ()


def scale_model(model: nn.Module, schemes: Mapping[str, Scheme], calibration: Calibration) -> list[GroupScale]:
    """Search scales for the decoder layers that a plan names, and fold them in.

    The function of the model stays the same, up to rounding in the type of its norms and biases; the linear layers
    that will be quantized are left in float32.

    Args:
        model: The unquantized model; changed in place once all scales are found.
        schemes: The scheme of each module that will be quantized, by name.
        calibration: Statistics of this model, and the search.

    Returns:
        The scales.

    Raises:
        ReliabitError: The plan names no decoder layer, or the statistics are of another decoder.
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
    """The schemes of the decoder's linear layers, by layer and path within it.

    Args:
        schemes: By name of the module; those outside the decoder are left out.
        path: The dotted path of the decoder layers.
        depth: Their number.

    Raises:
        ReliabitError: None of the modules lies in the decoder.

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
    """Refuse the statistics of another decoder.

    Raises:
        ReliabitError: They are of other layers.
    """
    if (statistics.path, statistics.depth) != (path, depth):
        raise ReliabitError(
            f"the calibration statistics are of {statistics.depth} layers at {statistics.path}, and the model has "
            f"{depth} at {path}; calibrate again"
        )
