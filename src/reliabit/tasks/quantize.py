"""`task=quantize`: write a quantized checkpoint that plain `from_pretrained` loads, or that an engine serves."""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.models.loading import check_loadable, load_checkpoint
from reliabit.quant.checkpoint_files import check_destination
from reliabit.quant.loadable import Grid, check_loads
from reliabit.tasks._model import check_fits, load_calibration, plan_as_configured, scales_table, stored_type
from reliabit.tasks._results import next_command, shown_bytes
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    from reliabit.models.llama_cpp.headers import Advice
    from reliabit.quant import ConversionReport, Plan

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
    if config.task.format == "gguf":
        _export_gguf(config, folder)
        return
    plan, warning = plan_as_configured(config), ""
    if config.task.format == "compressed_tensors":
        plan, warning = exported_plan(config, plan)
        report = _export(config, folder, plan)
    else:
        report = stream_quantized(config, folder, plan)
    sys.stdout.write(scales_table(report.scales))
    stored, before = checkpoint_bytes(folder), checkpoint_bytes(original)
    show_result(
        f"{folder}: {len(report.names)} modules at {report.effective_bits:.2f} bits a weight, "
        f"{stored} bytes (from {before})",
        [
            ("stored", f"{shown_bytes(stored)}, {stored / before:.0%} of {shown_bytes(before)}"),
            *([("note", warning)] if warning else []),
        ],
        then=next_command(f"model.path={folder}", "quant=none", without=QUANTIZING_KEYS),
    )


def stream_quantized(config: Config, folder: Path, plan: "Plan | None" = None) -> "ConversionReport":
    """Quantize the configured model into a folder, in our own format, a layer at a time; see `quantize_checkpoint`.

    Args:
        config: The configuration.
        folder: Where to.
        plan: How; `None` is as configured.
    """
    import torch

    from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

    calibration, inputs = load_calibration(config)
    return quantize_checkpoint(
        config.model.folder,
        folder,
        plan_as_configured(config) if plan is None else plan,
        decoder_layers=config.model.adapter.decoder_layers,
        calibration=calibration,
        inputs=inputs,
        dtype=getattr(torch, stored_type(config)),
    )


def exported_plan(config: Config, plan: "Plan") -> "tuple[Plan, str]":
    """A plan on grids that the configured format has, and where engines do not load them, as a sentence.

    Raises:
        ReliabitError: No engine loads them, or they do not fit the model.
    """
    import torch

    from reliabit.models.llama_cpp.blocks import plan_of_blocks
    from reliabit.quant import exportable_plan
    from reliabit.quant.checkpoint_io import skeleton
    from reliabit.quant.convert import check_schemes

    exported = config.task.format
    found = plan_of_blocks(plan) if exported == "gguf" else exportable_plan(plan)
    schemes = check_schemes(skeleton(config.model.folder, getattr(torch, config.model.dtype)), found)
    grids = {Grid(scheme.bits, scheme.zero, scheme.group_size) for scheme in schemes.values()}
    return found, check_loads(list(grids), exported="gguf" if exported == "gguf" else "compressed_tensors")


def _export(config: Config, folder: Path, plan: "Plan") -> "ConversionReport":
    from reliabit.quant import export_compressed_tensors, quantize_model

    model = load_checkpoint(replace(config.model, dtype=STORED_DTYPE)).model
    calibration, inputs = load_calibration(config)
    report = quantize_model(model, plan, calibration, inputs=inputs)
    export_compressed_tensors(model, folder, processor_from=config.model.folder)
    return report


def _export_gguf(config: Config, folder: Path) -> None:
    """Quantize as `quant` says, or leave that to llama.cpp's quantizer, and write both files."""
    from reliabit.models.llama_cpp.writing import DECODER, VISION, check_exportable, export_gguf
    from reliabit.quant.checkpoint_io import checkpoint_bytes

    source, family, file_type = config.model.folder, config.model.known_family, config.task.gguf or "f16"
    check_exportable(source, family=family, file_type=file_type)
    with TemporaryDirectory(prefix="gguf-") as work:
        packed = source
        if config.quant.method != "none":
            packed = Path(work, source.name)
            plan, _ = exported_plan(config, plan_as_configured(config))
            sys.stdout.write(scales_table(stream_quantized(config, packed, plan).scales))
        report = export_gguf(
            packed, folder, family=family, file_type=file_type, pre_tokenizer=config.task.pre_tokenizer
        )
    stored, before = sum(file.stat().st_size for file in folder.iterdir()), checkpoint_bytes(source)
    show_result(
        f"{folder}: {stored} bytes (from {before})",
        [
            ("tensors", ", ".join(f"{count} {kind}" for kind, count in report.types.items())),
            ("serve", served_by(report.advice, model=folder / DECODER, vision=folder / VISION)),
            *(("note", warning) for warning in report.advice.warnings),
        ],
    )


def served_by(advice: "Advice", *, model: Path, vision: Path) -> str:
    """The command line that serves what was exported.

    >>> from reliabit.models.llama_cpp.headers import Advice
    >>> served_by(Advice(("--image-max-tokens 100",)), model=Path("m/model.gguf"), vision=Path("m/mmproj.gguf"))
    'llama-server -m m/model.gguf --mmproj m/mmproj.gguf --image-max-tokens 100'
    """
    return " ".join(["llama-server", f"-m {model}", f"--mmproj {vision}", *advice.options])
