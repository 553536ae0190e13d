"""This project's methods on the decoder that `bench/peers.py` hands to all; what each name means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peers_quantizing import Job
from torch import Tensor, nn

from reliabit.quant import (
    Calibration,
    CalibrationBatch,
    InputCalibration,
    ResidentDecoder,
    Scheme,
    collect,
    quantize_model,
)
from reliabit.quant.plan import Plan, Rule
from reliabit.quant.record import ZeroKind
from reliabit.quant.settings import ScalingConfig

LAYERS = "model.layers"
BATCH = 16
IGNORED = -100


@dataclass(frozen=True)
class Own:
    """One of this project's configurations.

    Attributes:
        method: Of `reliabit.quant.methods`.
        zero: Where the zero may lie; `integer` takes as many bytes as the libraries' asymmetric grids.
        scaling: The scale search before it, if there is one.
        options: Of the method, beside its defaults.
    """

    method: str
    zero: ZeroKind = "float"
    scaling: ScalingConfig | None = None
    options: dict[str, Any] = field(default_factory=dict)


_AWQ = ScalingConfig(search="fast", modality_weight="none", loss="mse")
_MBQ = ScalingConfig(search="fast")
OWN = {
    "rtn": Own("rtn", "integer"),
    "hqq": Own("hqq"),
    "hqq_plus": Own("hqq_plus"),
    "hqq_plus_integer": Own("hqq_plus", "integer"),
    "awq": Own("rtn", "integer", _AWQ),
    "mbq": Own("rtn", "integer", _MBQ),
    "gptq": Own("gptq"),
    "gptq_integer": Own("gptq", "integer"),
    "gptaq": Own("gptq", "integer", options={"residual": 0.25}),
    "gptq_modality": Own("gptq", "integer", options={"weighting": "modality"}),
    "gptq_token": Own("gptq", "integer", options={"weighting": "token"}),
}


def padded_batches(sequences: Sequence[Tensor], targets: Sequence[Tensor], *, words: int) -> list[CalibrationBatch]:
    """Batches of sequences, padded on the right; ids from `words` on are image tokens."""
    return [
        _padded(sequences[start : start + BATCH], targets[start : start + BATCH], words)
        for start in range(0, len(sequences), BATCH)
    ]


def _padded(sequences: Sequence[Tensor], targets: Sequence[Tensor], words: int) -> CalibrationBatch:
    pad = nn.utils.rnn.pad_sequence
    ids = pad(list(sequences), batch_first=True)
    attended = pad([torch.ones_like(one) for one in sequences], batch_first=True)
    return CalibrationBatch(
        inputs={"input_ids": ids, "attention_mask": attended},
        vision=ids >= words,
        targets=pad(list(targets), batch_first=True, padding_value=IGNORED),
        attended=attended.bool(),
    )


def quantize_ours(job: Job, *, name: str) -> None:
    """Quantize the linear layers of a decoder in place; whatever the method learns from data is measured first."""
    own = OWN[name]
    scheme = Scheme(own.method, job.bits, job.group, own.zero, options=own.options)
    plan = Plan((Rule(scheme, pattern=r"^model\.layers\."),))
    batches = padded_batches(job.sequences, job.targets, words=job.words)
    with TemporaryDirectory() as folder:
        statistics = None
        if own.scaling is not None or own.options.get("weighting"):
            statistics = collect(ResidentDecoder(job.model, LAYERS), batches, Path(folder) / "statistics", key="bench")
        scaled = None if own.scaling is None else Calibration(statistics, own.scaling)
        learned = InputCalibration(LAYERS, batches, statistics) if own.method == "gptq" else None
        quantize_model(job.model, plan, scaled, inputs=learned)
