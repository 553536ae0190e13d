"""What runs of a checkpoint are called by, where it is quantized already."""

from dataclasses import replace
from pathlib import Path

from reliabit.quant.record import quantized_as
from reliabit.quant.settings import UNQUANTIZED, QuantConfig


def as_quantized(quant: QuantConfig, folder: Path) -> QuantConfig:
    """What runs of a checkpoint are called by: one that is quantized already must not pass for the baseline.

    Args:
        quant: How it is to be quantized. A name that was given stays.
        folder: The checkpoint.
    """
    found = None if quant.method != "none" else quantized_as(folder)
    if found is None:
        return quant
    return replace(
        quant,
        name=found.method if quant.name == UNQUANTIZED else quant.name,
        bits=found.bits if quant.bits is None else quant.bits,
        group_size=found.group_size if quant.group_size is None else quant.group_size,
    )
