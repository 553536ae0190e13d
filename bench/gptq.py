"""Error compensation on the pretrained reference: divergence and likelihood of answers, and what it costs.

`python bench/gptq.py --data <folder of prepared tables>` quantizes the decoder of `models/idefics3_smollm2` anew for
each configuration and width, calibrated on images of `train`, and judges it on questions of `dev`. What is there
already in the results is kept.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.data.table import first_images
from reliabit.metrics import one_per_image
from reliabit.models.batches import calibration_batches
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import (
    Calibration,
    CalibrationBatch,
    InputCalibration,
    ResidentDecoder,
    Scheme,
    Statistics,
    collect,
    default_plan,
    quantize_model,
)
from reliabit.quant.input_moments import InputMoments, InputNeeds, MomentSums
from reliabit.quant.mbq.decoder import Head, LayerInputs, output_embeddings, run_layer
from reliabit.quant.quantizer import quantize_weight
from reliabit.quant.settings import ScalingConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "gptq.json"
SPLITS = {"train": 3900, "dev": 280, "val": 108, "cal": 530, "test": 800}
GROUP = 64
SHAPES = ((1536, 576), (576, 1536), (3584, 3584))


@dataclass(frozen=True)
class Cell:
    """A configuration: a method with its options, and the scale search before it, if there is one."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    scaling: ScalingConfig | None = None
    zero: str = "float"


_AWQ = ScalingConfig(search="fast", modality_weight="none", loss="mse")
_MBQ = ScalingConfig(search="fast")
CELLS = {
    "rtn": Cell("rtn"),
    "hqq": Cell("hqq"),
    "hqq_plus": Cell("hqq_plus"),
    "awq": Cell("rtn", scaling=_AWQ),
    "mbq": Cell("rtn", scaling=_MBQ),
    "gptq, as published": Cell("gptq", {"grid": "minmax", "order": "none", "refit": 0}),
    "gptq": Cell("gptq"),
    "gptq, integer zero": Cell("gptq", zero="integer"),
    "gptaq": Cell("gptq", {"residual": 0.25}),
    "gptaq, whole residual": Cell("gptq", {"residual": 1.0}),
    "gptq_modality": Cell("gptq", {"weighting": "modality"}),
    "gptq_token": Cell("gptq", {"weighting": "token"}),
    "mbq + gptq": Cell("gptq", scaling=_MBQ),
}


def load() -> Checkpoint:
    """The unquantized reference."""
    return load_checkpoint(
        ModelConfig(
            path=str(ROOT / "models" / "idefics3_smollm2"), family="idefics3", dtype="float32", template="{question}"
        )
    )


class Judge:
    """What the exact model says at the answer positions of some questions, and what a quantized one says there."""

    def __init__(self, checkpoint: Checkpoint, batches: Sequence[CalibrationBatch]) -> None:
        """Run the exact model once."""
        self.path, self.batches = checkpoint.encoder.adapter.decoder_layers, batches
        decoder = ResidentDecoder(checkpoint.model, self.path)
        self.inputs = [decoder.inputs(batch) for batch in batches]
        self.exact = self._logits(checkpoint.model)

    def judge(self, model: nn.Module) -> dict[str, float]:
        """Mean KL divergence from the exact model, and mean negative log-likelihood, in nats a token."""
        said = self._logits(model)
        targets = torch.cat([batch.targets[batch.answer] for batch in self.batches])
        divergence = nn.functional.kl_div(
            said.log_softmax(-1), self.exact.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        return {"kl": float(divergence), "nll": float(nn.functional.cross_entropy(said, targets))}

    @torch.no_grad()
    def _logits(self, model: nn.Module) -> Tensor:
        layers = model.get_submodule(self.path)
        norm = model.get_submodule(f"{self.path.rpartition('.')[0]}.norm")
        head = Head(norm, output_embeddings(model))
        return torch.cat([self._batch(layers, head, *pair) for pair in zip(self.inputs, self.batches, strict=True)])

    def _batch(self, layers: nn.Module, head: Head, inputs: LayerInputs, batch: CalibrationBatch) -> Tensor:
        hidden = inputs.hidden
        for layer in layers.children():
            hidden = run_layer(layer, hidden, inputs.keywords)
        return head(hidden[batch.answer]).float()


def measure(
    cell: Cell, bits: int, judge: Judge, batches: Sequence[CalibrationBatch], statistics: Statistics
) -> dict[str, float]:
    """Quantize the reference and judge it; `seconds` are of processor time, statistics left out."""
    model = load().model
    plan = default_plan(Scheme(cell.method, bits, GROUP, cell.zero, options=cell.options))  # type: ignore[arg-type]
    inputs = InputCalibration(judge.path, batches, statistics) if cell.method == "gptq" else None
    scaled = None if cell.scaling is None else Calibration(statistics, cell.scaling)
    start = time.process_time()
    quantize_model(model, plan, scaled, inputs=inputs)
    seconds = time.process_time() - start
    return {**judge.judge(model), "seconds": seconds}


def layer_costs() -> dict[str, dict[str, float]]:
    """Processor seconds of moments and of quantizing for single layers, on one thread."""
    found = {}
    for rows, inputs in SHAPES:
        weight, tokens = torch.randn(rows, inputs) * 0.05, torch.randn(4096, inputs)
        sums = MomentSums(InputNeeds())
        start = time.process_time()
        sums.add(tokens)
        moments = sums.moments()
        costs = {"moments": time.process_time() - start}
        for name, options in (("as published", CELLS["gptq, as published"].options), ("default", {})):
            start = time.process_time()
            quantize_weight(weight, "gptq", 3, GROUP, inputs=InputMoments(moments.second), **options)
            costs[name] = time.process_time() - start
        found[f"{rows}x{inputs}"] = costs
    return found


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 2, 4])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--layers", action="store_true", help="measure single layers alone")
    asked = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"cells": []}
    if asked.layers:
        torch.set_num_threads(1)
        found["layers"] = layer_costs()
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        return
    checkpoint, table = load(), prepare(DataConfig(name="pictures", splits=SPLITS), root=asked.data)
    train, dev = first_images(load_split(table, "train"), asked.images), load_split(table, "dev")
    rows = list(train.select(one_per_image(train["image_id"], seed=0)))
    batches = calibration_batches(rows, encoder=checkpoint.encoder, batch_size=16)
    judged = calibration_batches(list(dev.select(range(asked.questions))), encoder=checkpoint.encoder, batch_size=50)
    judge = Judge(checkpoint, judged)
    found |= {"images": asked.images, "questions": asked.questions, "threads": torch.get_num_threads()}
    found["exact"] = judge.judge(checkpoint.model)
    done = {(cell["name"], cell["bits"]) for cell in found["cells"]}
    with TemporaryDirectory() as folder:
        decoder = ResidentDecoder(checkpoint.model, judge.path)
        start = time.process_time()
        statistics = collect(decoder, batches, Path(folder) / "statistics", key="bench")
        found["statistics seconds"] = time.process_time() - start
        for bits in asked.bits:
            for name in asked.cells:
                if (name, bits) not in done:
                    measured = measure(CELLS[name], bits, judge, batches, statistics)
                    found["cells"].append({"name": name, "bits": bits, **measured})
                    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
                    print(bits, name, measured, flush=True)


if __name__ == "__main__":
    main()
