"""`task=quantize`: write a quantized checkpoint that plain `from_pretrained` loads."""

import sys
from dataclasses import replace
from pathlib import Path

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.tasks.quantized import build_plan, load_model
from reliabit.tasks.runtime import set_up

STORED_DTYPE = "bfloat16"
"""The type of the weights that a quantized checkpoint leaves alone."""


def quantize(config: Config) -> None:
    """Quantize the configured model and write it to `task.checkpoint`.

    Raises:
        ReliabitError: There is nothing to quantize, or nowhere to write it.
    """
    from reliabit.quant import quantize_model
    from reliabit.quant.checkpoint import checkpoint_bytes, save_checkpoint
    from reliabit.quant.export import export_compressed_tensors, exportable_plan

    if config.quant.method == "none":
        raise ReliabitError("task=quantize has nothing to do with quant=none; choose a quantizer")
    if config.task.checkpoint is None:
        raise ReliabitError("task.checkpoint is not set; name the folder to write to")
    set_up(config)
    exported = config.task.format == "compressed_tensors"
    plan = build_plan(config.quant)
    model = load_model(replace(config.model, dtype=STORED_DTYPE)).model
    report = quantize_model(model, exportable_plan(plan) if exported else plan)
    folder, original = Path(config.task.checkpoint), Path(config.model.path)
    write = export_compressed_tensors if exported else save_checkpoint
    write(model, folder, processor_from=original)
    sys.stdout.write(
        f"{folder}: {len(report.names)} modules at {report.effective_bits:.2f} bits a weight, "
        f"{checkpoint_bytes(folder)} bytes (from {checkpoint_bytes(original)})\n"
    )
