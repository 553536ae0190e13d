"""The model that a configuration names, quantized in memory as it says."""

from dataclasses import dataclass, replace
from pathlib import Path

from reliabit.config import Config, ModelConfig, TrainerConfig
from reliabit.errors import ReliabitError
from reliabit.models.checkpoint import Checkpoint, load_checkpoint
from reliabit.models.quantization_record import OUR_FORMAT, quantized_as
from reliabit.models.spread import Spread, offloaded
from reliabit.quant import Report, Size, model_size, quantize_model
from reliabit.tasks.calibrated import load_calibration
from reliabit.tasks.plan import build_plan


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A model with what its quantization did and what it takes.

    Attributes:
        checkpoint: The model, ready to answer.
        report: The modules that were converted; `None` for the baseline.
        size: Its bytes, weights that are not quantized counted as stored in bfloat16; of checkpoints in other formats
            what is stored is the size of their files, and which weights are quantized is not told.
    """

    checkpoint: Checkpoint
    report: Report | None
    size: Size


def load_model(model: ModelConfig, *, spread: Spread | None = None) -> Checkpoint:
    """Load the model as it is."""
    return load_checkpoint(
        Path(model.path),
        family=model.family,
        dtype=model.dtype,
        template=model.template,
        max_pixels=model.max_pixels,
        spread=spread,
    )


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


def load_quantized(config: Config) -> QuantizedCheckpoint:
    """Load the model and quantize it in memory.

    Raises:
        ReliabitError: It is to be quantized, and some of it lies off the devices.
    """
    import torch

    from reliabit.quant.checkpoint import checkpoint_bytes

    checkpoint, report = load_model(config.model, spread=spread_of(config.trainer)), None
    if config.quant.method != "none":
        away = offloaded(checkpoint.model)
        if away:
            raise ReliabitError(
                f"trainer.device_map={config.trainer.device_map} leaves {len(away)} tensors of {config.model.name} off "
                f"the devices, where they cannot be quantized ({away[0]} among them); write a checkpoint with "
                "task=quantize, and answer with model.path=<its folder> quant=none"
            )
        report = quantize_model(checkpoint.model, build_plan(config.quant), load_calibration(config))
    size = model_size(checkpoint.model, stored_dtype=torch.bfloat16)
    found = quantized_as(Path(config.model.path))
    if found is not None and found.format != OUR_FORMAT:
        # Read by other code into modules of its own, or dequantized; what is stored the files alone tell.
        size = replace(size, stored_bytes=checkpoint_bytes(Path(config.model.path)))
    return QuantizedCheckpoint(checkpoint=checkpoint, report=report, size=size)
