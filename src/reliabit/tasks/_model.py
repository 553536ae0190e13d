"""The model that a configuration names, quantized in memory as it says, and how a chunk of questions is put to it.

Kept answers are known by the code that this module reaches.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.cache import get_or_create
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.inference.settings import TrainerConfig
from reliabit.models.loading import Checkpoint, load_checkpoint, load_encoder
from reliabit.models.spread import Spread, device_of, is_spread, offloaded
from reliabit.quant import ConversionReport, Size, kernels_of, model_size, quantize_model
from reliabit.quant.checkpoint_files import stored_types
from reliabit.quant.plan import Plan, build_plan, plan_of
from reliabit.quant.record import OUR_FORMAT, quantized_as
from reliabit.tasks._calibration_rows import FOLDER, calibration_rows
from reliabit.tasks._searched import SearchedPlan, prepared_search, searched_plan

if TYPE_CHECKING:
    from reliabit.inference.answer_store import ChunkAnswerer
    from reliabit.inference.encoded_store import EncodedStore
    from reliabit.quant import Calibration, CalibrationBatch, GroupScale, InputCalibration, Statistics

BASELINE_TYPE = "bfloat16"
"""The type that the weights of the baseline are counted as stored in."""


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A model with what its quantization did and what it takes.

    Attributes:
        checkpoint: The model, ready to answer.
        report: The modules that were converted; `None` for the baseline.
        kernels: What multiplies by the weight of each quantized layer, by its name; `eager` where no kernel does.
        size: Its bytes, weights that are not quantized counted as a checkpoint of it has them (`kept_type`), all of the
            baseline's in bfloat16; of checkpoints in other formats what is stored is the size of their files, and which
            weights are quantized is not told.
        searched: The plan, where it was searched.
    """

    checkpoint: Checkpoint
    report: ConversionReport | None
    kernels: Mapping[str, str]
    size: Size
    searched: SearchedPlan | None = None


def spread_of(trainer: TrainerConfig) -> Spread | None:
    """How a configuration spreads its model over devices, if it does."""
    if trainer.device_map is None:
        return None
    return Spread(
        trainer.device_map,
        accelerators=trainer.accelerator != "cpu",
        device_memory=trainer.device_memory,
        host_memory=trainer.host_memory,
    )


def kept_type(stored: Set[str], computed: str) -> str:
    """The type that weights are quantized from; those that are not quantized are stored in it.

    It is that of the cell that is measured, or a shorter one where that loses nothing: a bundle is made of it.

    Args:
        stored: The types that the unquantized checkpoint has them in.
        computed: The type that the model computes in.

    >>> kept_type({"bfloat16"}, "float32"), kept_type({"float32"}, "float32"), kept_type({"float32"}, "bfloat16")
    ('bfloat16', 'float32', 'bfloat16')
    """
    [only] = stored if len(stored) == 1 else {computed}
    return only if computed == "float32" and only in ("bfloat16", "float16") else computed


def stored_type(config: Config) -> str:
    """The type that weights of a quantized checkpoint of the configured model are stored in; see `kept_type`."""
    return kept_type(stored_types(config.model.folder), config.model.dtype)


def check_fits(config: Config) -> None:
    """Check that the plan of a configuration fits its model, before weights are read or statistics measured.

    Raises:
        ReliabitError: It does not; see `quantize_model`.
    """
    import torch

    from reliabit.quant.checkpoint_io import skeleton
    from reliabit.quant.convert import check_schemes
    from reliabit.quant.quantized_prefix import check_places

    if config.quant.is_searched:
        prepared_search(config, stored=stored_type(config))
        return
    plan = plan_of(config.quant)
    if plan is not None:
        schemes = check_schemes(skeleton(config.model.folder, getattr(torch, config.model.dtype)), plan)
        if config.quant.learns_inputs:
            check_places(schemes, path=config.model.adapter.decoder_layers)


def load_quantized(config: Config) -> QuantizedCheckpoint:
    """Load the model where it is to answer, and quantize it in memory.

    Raises:
        ReliabitError: It is to be quantized, and some of it lies off the devices.
    """
    import torch

    from reliabit.quant.checkpoint_io import checkpoint_bytes

    # Its own copy of the model is gone before the one that answers is loaded.
    searched = searched_plan(config, stored=stored_type(config)) if config.quant.is_searched else None
    checkpoint, report = load_checkpoint(config.model, spread=spread_of(config.trainer)), None
    if config.quant.method != "none":
        away = offloaded(checkpoint.model)
        if away:
            raise ReliabitError(
                f"trainer.device_map={config.trainer.device_map} leaves {len(away)} tensors of {config.model.name} off "
                f"the devices, where they cannot be quantized ({away[0]} among them); write a checkpoint with "
                "task=quantize, and answer with model.path=<its folder> quant=none"
            )
        plan = build_plan(config.quant) if searched is None else searched.plan
        calibration, inputs = load_calibration(config)
        report = quantize_model(checkpoint.model, plan, calibration, inputs=inputs)
    if not is_spread(checkpoint.model):
        # Kernels are of a device; a model is quantized where it was loaded, as checkpoints are.
        checkpoint.model.to(device_of(config.trainer.accelerator))
    kernels = kernels_of(checkpoint.model, dtype=checkpoint.model.dtype)
    stored = BASELINE_TYPE if report is None else stored_type(config)
    size = model_size(checkpoint.model, stored_dtype=getattr(torch, stored))
    found = quantized_as(config.model.folder)
    if found is not None and found.format != OUR_FORMAT:
        # Read by other code into modules of its own, or dequantized; what is stored the files alone tell.
        size = replace(size, stored_bytes=checkpoint_bytes(config.model.folder))
    return QuantizedCheckpoint(checkpoint=checkpoint, report=report, kernels=kernels, size=size, searched=searched)


def plan_as_configured(config: Config) -> Plan:
    """The plan that a configuration's rules describe, or that its search finds.

    Raises:
        ReliabitError: A searched plan leaves everything as it is.
    """
    if not config.quant.is_searched:
        return build_plan(config.quant)
    found = searched_plan(config, stored=stored_type(config)).plan
    if not found.rules:
        raise ReliabitError(f"the budget leaves {config.model.name} as it is: there is nothing to quantize; lower it")
    return found


def chunk_answerer(
    config: Config, model: QuantizedCheckpoint, encoded: "Callable[[], EncodedStore]"
) -> "ChunkAnswerer":
    """What answers a chunk of questions; see `reliabit.inference.answering.answer_chunk`."""
    from reliabit.inference.answering import answer_chunk

    return partial(
        answer_chunk,
        model.checkpoint,
        encoded,
        batch_size=config.trainer.batch_size,
        max_new_tokens=config.model.max_new_tokens,
        accelerator=config.trainer.accelerator,
        progress=config.trainer.progress_bar,
    )


def load_calibration(config: Config) -> "tuple[Calibration | None, InputCalibration | None]":
    """What a configuration learns from its calibration set; None where it asks for none.

    The first is its scale search, with statistics, the second what methods that learn from inputs are shown.
    """
    # A search for a plan has read the calibration set by itself.
    if config.quant.is_searched or not config.quant.is_calibrated:
        return None, None
    import torch

    from reliabit.quant import Calibration, InputCalibration

    settings, statistics, calibration, inputs = config.quant.scaling, None, None, None
    if needs_statistics(config):
        statistics, batches = load_statistics(config)
    else:
        batches = _load_batches(config)
    if settings.search != "none" and statistics is not None:
        calibration = Calibration(statistics, settings, batches if settings.search == "faithful" else ())
    if config.quant.learns_inputs:
        layers = config.model.adapter.decoder_layers
        inputs = InputCalibration(layers, batches, statistics, dtype=getattr(torch, config.model.dtype))
    return calibration, inputs


def needs_statistics(config: Config) -> bool:
    """Whether a configuration needs statistics of the unquantized model, which are measured once for all widths."""
    from reliabit.quant.quantized_prefix import plan_needs

    if not config.quant.is_calibrated:
        return False
    searched = config.quant.scaling.search != "none"
    return searched or any(needs.statistics for needs in plan_needs(build_plan(config.quant)))


def _load_batches(config: Config) -> "list[CalibrationBatch]":
    """The calibration set of a configuration, encoded."""
    from reliabit.models.batches import calibration_batches

    size = config.quant.calibration.batch_size
    return calibration_batches(calibration_rows(config), encoder=load_encoder(config.model), batch_size=size)


def load_statistics(config: Config) -> "tuple[Statistics, list[CalibrationBatch]]":
    """The statistics of a model on its calibration set, and that set, encoded.

    Processes may call this at once, and one of them measures: in `model.dtype`, a layer of the checkpoint at a time.
    """
    import torch

    from reliabit.quant import collect, folder_digest, read_statistics
    from reliabit.quant import statistics_key as key_of
    from reliabit.quant.streaming.streamed_decoder import StreamedDecoder

    settings, model, batches = config.quant.calibration, config.model.folder, _load_batches(config)
    layers, dtype = config.model.adapter.decoder_layers, getattr(torch, config.model.dtype)
    key = key_of(weights=folder_digest(model), batches=batches, settings=settings, path=layers, dtype=dtype)
    folder = Path(config.paths.cache) / FOLDER / f"{config.model.name}-{key[:12]}"

    def read() -> "Statistics | None":
        return read_statistics(folder, key=key) if folder.is_dir() else None

    def measure() -> "Statistics":
        decoder = StreamedDecoder(model, layers, dtype=dtype)
        return collect(decoder, batches, folder, key=key, settings=settings)

    return get_or_create(folder, read=read, make=measure), batches


def scales_table(scales: "Sequence[GroupScale]") -> str:
    """What a search chose, a line a group; empty where nothing was scaled."""
    lines = [
        f"  layer {found.layer} {found.group}: exponent {found.exponent:.2f}, sensitivity {found.sensitivity:.4f}, "
        f"loss {found.loss_before:.6f} -> {found.loss_after:.6f}\n"
        for found in scales
    ]
    return "".join(["scales:\n", *lines]) if lines else ""
