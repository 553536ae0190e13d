"""The model that a configuration names, quantized in memory as it says."""

from dataclasses import dataclass
from pathlib import Path

from reliabit.config import Config, ModelConfig, QuantConfig
from reliabit.models.checkpoint import Checkpoint, load_checkpoint
from reliabit.quant import Plan, Report, Size, model_size, plan_from_config, quantize_model
from reliabit.tasks.calibrated import load_calibration


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """A model with what its quantization did and what it takes.

    Attributes:
        checkpoint: The model, ready to answer.
        report: The modules that were converted; `None` for the baseline.
        size: Its bytes, weights that are not quantized counted as stored in bfloat16.
    """

    checkpoint: Checkpoint
    report: Report | None
    size: Size


def build_plan(quant: QuantConfig) -> Plan:
    """The plan that a configuration describes."""
    defaults = {
        "method": quant.method,
        "bits": quant.bits,
        "group_size": quant.group_size,
        "zero": quant.zero,
        "solver": quant.solver,
        "p_norm": quant.p_norm,
    }
    return plan_from_config(quant.rules, defaults=defaults)


def load_model(model: ModelConfig) -> Checkpoint:
    """Load the model as it is."""
    return load_checkpoint(Path(model.path), family=model.family, dtype=model.dtype, template=model.template)


def load_quantized(config: Config) -> QuantizedCheckpoint:
    """Load the model and quantize it in memory."""
    import torch

    checkpoint, report = load_model(config.model), None
    if config.quant.method != "none":
        report = quantize_model(checkpoint.model, build_plan(config.quant), load_calibration(config))
    size = model_size(checkpoint.model, stored_dtype=torch.bfloat16)
    return QuantizedCheckpoint(checkpoint=checkpoint, report=report, size=size)
