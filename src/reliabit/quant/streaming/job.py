"""What a quantized checkpoint depends on, as one key: work that was left unfinished is only gone on with under it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version

import torch

from reliabit.quant.mbq.identity import LIBRARIES, batch_digest, code_digest
from reliabit.quant.mbq.scaling import Calibration
from reliabit.quant.plan import Scheme

QUANTIZING = ("reliabit.quant.streaming.quantize",)
"""The module that writes quantized checkpoints."""


def job_key(
    *,
    source: str,
    schemes: Mapping[str, Scheme],
    decoder_layers: str,
    calibration: Calibration | None,
    dtype: torch.dtype,
    shard_bytes: int,
) -> str:
    """The key of the checkpoint that a model becomes under a plan.

    Args:
        source: The digest of the model (`folder_digest`).
        schemes: The scheme of each module that is quantized.
        decoder_layers: The dotted path of the decoder layers.
        calibration: Statistics and a scale search, or None.
        dtype: The type of the weights that are not quantized.
        shard_bytes: Size of the shards that are written.

    Returns:
        A SHA-256 in hexadecimal; the code and the libraries are part of it.
    """
    record = {
        "source": source,
        "schemes": {name: asdict(scheme) for name, scheme in schemes.items()},
        "decoder_layers": decoder_layers,
        "calibration": None if calibration is None else _calibration_record(calibration),
        "dtype": str(dtype),
        "shard_bytes": shard_bytes,
        "code": code_digest(QUANTIZING),
        "libraries": {name: version(name) for name in (*LIBRARIES, "safetensors", "hqq")},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _calibration_record(calibration: Calibration) -> dict[str, object]:
    return {
        "statistics": calibration.statistics.key,
        "settings": asdict(calibration.settings),
        "batches": [batch_digest(batch) for batch in calibration.batches],
    }
