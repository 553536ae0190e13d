"""What calibration statistics depend on, as one key: the model, the calibration set, the settings and this code."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliabit.code_graph import module_digests
from reliabit.errors import ReliabitError
from reliabit.files import sha256
from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.settings import CalibrationConfig

LIBRARIES = ("torch", "transformers", "tokenizers")
"""Their versions decide on positions, masks and arithmetic."""

COLLECTING = (
    "reliabit.quant.mbq.collection",
    "reliabit.quant.mbq.decoder",
    "reliabit.quant.mbq.calibration_statistics",
    "reliabit.quant.streaming.streamed_decoder",
)
"""The modules that measure statistics, in memory or a layer at a time, and that keep them."""

BY_VALUE = ("reliabit.code_graph", "reliabit.progress", "reliabit.quant.settings")
"""How code is told shows in the digest itself, and so do settings."""


def statistics_key(
    *, weights: str, batches: Sequence[CalibrationBatch], settings: CalibrationConfig, path: str, dtype: torch.dtype
) -> str:
    """The key of the statistics that a model gives on a calibration set.

    Args:
        weights: Digest of the model's weights.
        batches: The calibration set.
        settings: What is kept.
        path: The dotted path of the decoder layers.
        dtype: The type that the model computes in.

    Returns:
        A SHA-256 in hexadecimal.
    """
    record = {
        "weights": weights,
        "batches": [batch_digest(batch) for batch in batches],
        "settings": settings.collected(),
        "path": path,
        "dtype": str(dtype),
        "code": code_digest(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def code_digest(entries: Sequence[str] = COLLECTING) -> str:
    """A digest of the code that some modules depend on, themselves included; see `reliabit.code_graph`."""
    return hashlib.sha256(json.dumps(module_digests(entries, by_value=BY_VALUE), sort_keys=True).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """A digest of the weights and the configuration of a checkpoint folder.

    Raises:
        ReliabitError: The folder holds no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ReliabitError(f"{folder} holds no safetensors file")
    found = hashlib.sha256()
    for file in (*files, folder / "config.json"):
        found.update(file.name.encode() + bytes.fromhex(sha256(file)))
    return found.hexdigest()


def batch_digest(batch: CalibrationBatch) -> str:
    """A digest of everything in a calibration batch."""
    found = hashlib.sha256()
    masks = {"vision": batch.vision, "targets": batch.targets, "attended": batch.attended}
    for name, value in sorted({**batch.inputs, **masks}.items()):
        found.update(name.encode())
        _update(found, value)
    return found.hexdigest()


def _update(found: Any, value: object) -> None:
    if isinstance(value, Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    else:
        found.update(repr(value).encode())
