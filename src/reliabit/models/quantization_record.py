"""What a checkpoint's config.json says of how it was quantized, and what its runs are called by."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reliabit.config import UNQUANTIZED, QuantConfig

OUR_FORMAT = "reliabit"
"""`quant_method` of the checkpoints that `task=quantize` writes."""


@dataclass(frozen=True)
class Quantized:
    """How a checkpoint was quantized.

    Attributes:
        format: Its `quant_method`; empty where it does not tell.
        method: The method; the format where it does not tell.
        bits: Width of a weight; `None` where there are several, or it does not tell.
        group_size: Inputs that share a scale; `None` for whole rows, or where there are several.
    """

    format: str
    method: str
    bits: int | None
    group_size: int | None


def quantized_as(folder: Path) -> Quantized | None:
    """How a checkpoint was quantized; `None` for one that is not, or that cannot be read.

    A scale search before it leaves no trace: a checkpoint of MBQ is one of the method that its weights were put on the
    grid by.

    Args:
        folder: A checkpoint folder, of this format or another one that transformers reads.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> schemes = [{"method": "hqq", "bits": 4, "group_size": 64}, {"method": "hqq", "bits": 8, "group_size": 64}]
        >>> with TemporaryDirectory() as name:
        ...     config = {"quantization_config": {"quant_method": "reliabit", "schemes": schemes}}
        ...     _ = Path(name, "config.json").write_text(json.dumps(config))
        ...     quantized_as(Path(name))
        Quantized(format='reliabit', method='hqq', bits=None, group_size=64)
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or not isinstance(record := config.get("quantization_config"), dict):
        return None
    schemes, name = list(_schemes(record)), str(record.get("quant_method") or "")
    group_size = _only(scheme.get("group_size") for scheme in schemes)
    return Quantized(
        format=name,
        method=_only(scheme.get("method") for scheme in schemes) or name or "quantized",
        bits=_only(_bits(scheme) for scheme in schemes),
        # Other formats write -1 for whole rows.
        group_size=group_size if group_size and group_size > 0 else None,
    )


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


def _schemes(record: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Ours, those of compressed-tensors, or the record itself, as other formats keep it."""
    groups = record.get("config_groups")
    found = record.get("schemes") or ([group.get("weights") for group in groups.values()] if groups else [record])
    return (scheme for scheme in found if isinstance(scheme, dict))


def _bits(scheme: Mapping[str, Any]) -> int | None:
    """The width, under the name that a format has for it."""
    named = next((scheme[name] for name in ("bits", "num_bits", "nbits") if isinstance(scheme.get(name), int)), None)
    flags = {4: "load_in_4bit", 8: "load_in_8bit"}
    return named or next((bits for bits, flag in flags.items() if scheme.get(flag)), None)


def _only(values: Iterable[Any]) -> Any:
    found = set(values)
    return found.pop() if len(found) == 1 else None
