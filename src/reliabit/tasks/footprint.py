"""`task=footprint`: what a model takes under a plan, from its config alone."""

import sys
from pathlib import Path

from reliabit.config import Config
from reliabit.models.checkpoint_folder import check_folder
from reliabit.quant.plan import build_plan

UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def footprint(config: Config) -> None:
    """Print the bytes and effective bits of a model under a plan, whole and by component."""
    from reliabit.quant import footprint as measure

    check_folder(Path(config.model.path), family=config.model.family)
    plan = None if config.quant.method == "none" else build_plan(config.quant)
    found = measure(Path(config.model.path), plan)
    size = found.size
    sys.stdout.write(
        f"{config.model.path} with quant={config.quant.name}: {size.weights} weights, "
        f"{shown(size.stored_bytes)} stored, {shown(size.resident_bytes)} resident, "
        f"{size.effective_bits:.2f} bits a weight, {found.file_bytes} bytes as one file\n"
    )
    for name, part in found.components.items():
        sys.stdout.write(f"  {name}: {part.weights} weights, {shown(part.stored_bytes)}\n")


def shown(count: int) -> str:
    """Bytes in the largest unit that they fill.

    >>> shown(5 * 2**30), shown(1536), shown(12)
    ('5.00 GiB', '1.50 KiB', '12 bytes')
    """
    for name, size in UNITS:
        if count >= size:
            return f"{count / size:.2f} {name}"
    return f"{count} bytes"
