"""What a checkpoint's config.json says of how it was quantized."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Quantized:
    """How a checkpoint was quantized.

    Attributes:
        method: The method, or the format where it does not tell.
        bits: Width of a weight; `None` where there are several.
        group_size: Inputs that share a scale; `None` for whole rows, or where there are several.
    """

    method: str
    bits: int | None
    group_size: int | None


def quantized_as(folder: Path) -> Quantized | None:
    """How a checkpoint was quantized; `None` for one that is not, or cannot be read.

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
        Quantized(method='hqq', bits=None, group_size=64)
    """
    try:
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
        schemes = _schemes(record)
        method = _only(scheme.get("method") for scheme in schemes) or str(record["quant_method"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Quantized(
        method=method,
        bits=_only(scheme.get("bits", scheme.get("num_bits")) for scheme in schemes),
        group_size=_only(scheme.get("group_size") for scheme in schemes),
    )


def _schemes(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Ours, those of compressed-tensors, or the record itself, as other formats keep it."""
    groups = record.get("config_groups")
    return record.get("schemes") or ([group["weights"] for group in groups.values()] if groups else [record])


def _only(values: Iterable[Any]) -> Any:
    found = set(values)
    return found.pop() if len(found) == 1 else None
