"""`task=quantize`: write a quantized checkpoint that plain `from_pretrained` loads."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.models.loading import check_loadable, load_checkpoint
from reliabit.quant.checkpoint_files import check_destination
from reliabit.tasks._model import check_fits, load_calibration, plan_as_configured, scales_table, stored_type
from reliabit.tasks._results import next_command, shown_bytes
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    from reliabit.quant import ConversionReport

QUANTIZING_KEYS = ("quant.bits", "task.checkpoint", "task.format")
"""What says how to quantize, which whoever asks the quantized model needs no more."""

STORED_DTYPE = "bfloat16"
"""The type of the weights that an exported checkpoint leaves alone."""


def quantize(config: Config) -> None:
    """Quantize the configured model and write it to `task.checkpoint`.

    What is exported is quantized in memory; our own format a layer at a time, so that models larger than memory can be.
    That way goes on, after it was killed, from the layers that are done, and the checkpoint carries the hashes of its
    files, which are checked whenever it is loaded.

    Raises:
        ReliabitError: The model cannot be quantized, or not written there.
    """
    from reliabit.quant.checkpoint_io import checkpoint_bytes

    set_up(config)
    folder, original = Path(config.task.place("checkpoint")), config.model.folder
    check_loadable(config.model)
    check_fits(config)
    check_destination(folder, source=original)
    report = _export(config, folder) if config.task.format == "compressed_tensors" else stream_quantized(config, folder)
    sys.stdout.write(scales_table(report.scales))
    stored, before = checkpoint_bytes(folder), checkpoint_bytes(original)
    show_result(
        f"{folder}: {len(report.names)} modules at {report.effective_bits:.2f} bits a weight, "
        f"{stored} bytes (from {before})",
        [("stored", f"{shown_bytes(stored)}, {stored / before:.0%} of {shown_bytes(before)}")],
        then=next_command(f"model.path={folder}", "quant=none", without=QUANTIZING_KEYS),
    )


def stream_quantized(config: Config, folder: Path) -> "ConversionReport":
    """Quantize the configured model into a folder, in our own format, a layer at a time; see `quantize_checkpoint`."""
    import torch

    from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

    calibration, inputs = load_calibration(config)
    return quantize_checkpoint(
        config.model.folder,
        folder,
        plan_as_configured(config),
        decoder_layers=config.model.adapter.decoder_layers,
        calibration=calibration,
        inputs=inputs,
        dtype=getattr(torch, stored_type(config)),
    )


def _export(config: Config, folder: Path) -> "ConversionReport":
    from reliabit.quant import export_compressed_tensors, exportable_plan, quantize_model

    plan = exportable_plan(plan_as_configured(config))
    model = load_checkpoint(replace(config.model, dtype=STORED_DTYPE)).model
    calibration, inputs = load_calibration(config)
    report = quantize_model(model, plan, calibration, inputs=inputs)
    export_compressed_tensors(model, folder, processor_from=config.model.folder)
    return report
