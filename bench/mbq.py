"""MBQ against rounding, HQQ and AWQ on both reference models: errors, answers, times.

Run as `python bench/mbq.py` from the repository's root, with the package installed or on `PYTHONPATH`; `--page` writes
the page again from the results. It writes `bench/results/mbq.json` and `docs/mbq.md`. Memory of the streamed way is
measured by `bench/streaming.py`, which adds its part.
"""

import argparse
import copy
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mbq_judgement import judge_scales
from mbq_page import write_page
from torch import Tensor, nn

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.data.table import first_images
from reliabit.inference.answering import answer_batches
from reliabit.inference.prediction_loop import batches_of
from reliabit.metrics import one_per_image
from reliabit.metrics.functional import aurc, coverage_at_risk, vqa_accuracy
from reliabit.models.batches import calibration_batches
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import (
    Calibration,
    CalibrationBatch,
    ResidentDecoder,
    Scheme,
    Statistics,
    collect,
    default_plan,
    quantize_model,
)
from reliabit.quant.mbq.decoder import Head, LayerInputs, output_embeddings, run_layer
from reliabit.quant.mbq.scaling import by_layer
from reliabit.quant.mbq.search import search_decoder
from reliabit.quant.settings import ScalingConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "mbq.json"
FAMILIES = ("qwen2_vl", "idefics3")
BITS = (2, 3, 4, 8)
GROUP_SIZE = 64
CALIBRATION_IMAGES, HELD_OUT_IMAGES, ASKED_IMAGES = 256, 400, 200
BATCH = 16
SEEDS = 3
SPLITS = {"train": 2400, "dev": 600, "val": 300, "cal": 700, "test": 1000}
AWQ = ScalingConfig(search="fast", modality_weight="none", loss="mse")
SCALED: dict[str, tuple[str, ScalingConfig]] = {
    "awq": ("rtn", AWQ),
    "mbq": ("rtn", ScalingConfig(search="fast")),
    "mbq, balanced scale": ("rtn", ScalingConfig(search="fast", activation="balanced")),
    "mbq, token weights": ("rtn", ScalingConfig(search="fast", modality_weight="token")),
    "mbq + hqq_plus": ("hqq_plus", ScalingConfig(search="fast")),
}
PLAIN = ("rtn", "hqq", "hqq_plus")


@dataclass
class Subject:
    """A reference model with its data, and what the unquantized model makes of the held-out set."""

    checkpoint: Checkpoint
    dev: list[dict[str, Any]]
    test: Any
    held_out: list[CalibrationBatch]
    inputs: list[LayerInputs] = field(default_factory=list)
    exact: tuple[list[Tensor], Tensor] = field(default_factory=lambda: ([], torch.empty(0)))

    @property
    def path(self) -> str:
        """Where the decoder layers are."""
        return self.checkpoint.encoder.adapter.decoder_layers

    def calibration_set(self, seed: int) -> list[CalibrationBatch]:
        """Another draw of images of the split `dev`."""
        rows = random.Random(seed).sample(self.dev, CALIBRATION_IMAGES)
        return calibration_batches(rows, encoder=self.checkpoint.encoder, batch_size=BATCH)


def load_subject(family: str) -> Subject:
    """Load a reference model and the data it is asked about."""
    checkpoint = load_checkpoint(
        ModelConfig(path=str(ROOT / "models" / f"{family}_tiny"), family=family, dtype="float32", template="{question}")
    )
    table = prepare(DataConfig(name="easy_vqa", splits=SPLITS), root=ROOT / "data")
    dev, test = load_split(table, "dev"), load_split(table, "test")
    one_each = [test[row] for row in one_per_image(test["image_id"], seed=0)]
    # The questions asked and the sequences compared are about different images.
    held_out = calibration_batches(one_each[-HELD_OUT_IMAGES:], encoder=checkpoint.encoder, batch_size=50)
    dev_rows = [dev[row] for row in one_per_image(dev["image_id"], seed=0)]
    subject = Subject(checkpoint, dev_rows, first_images(test, ASKED_IMAGES), held_out)
    decoder = ResidentDecoder(checkpoint.model, subject.path)
    subject.inputs = [decoder.inputs(batch) for batch in held_out]
    subject.exact = outputs(checkpoint.model, subject)
    return subject


@torch.no_grad()
def outputs(model: nn.Module, subject: Subject) -> tuple[list[Tensor], Tensor]:
    """Each layer's outputs and the logits at the answer positions of the held-out set."""
    decoder = list(model.get_submodule(subject.path).children())
    norm = model.get_submodule(subject.path.rpartition(".")[0] + ".norm")
    head = Head(norm, output_embeddings(model))
    layers: list[list[Tensor]] = [[] for _ in decoder]
    logits = []
    for inputs, batch in zip(subject.inputs, subject.held_out, strict=True):
        hidden = inputs.hidden
        for index, layer in enumerate(decoder):
            hidden = run_layer(layer, hidden, inputs.keywords)
            layers[index].append(hidden[batch.answer])
        logits.append(head(hidden[batch.answer]).float())
    return [torch.cat(parts) for parts in layers], torch.cat(logits)


def output_errors(model: nn.Module, subject: Subject) -> dict[str, float]:
    """How far a quantized model's outputs at answer positions are from the exact ones."""
    layers, logits = outputs(model, subject)
    exact_layers, exact_logits = subject.exact
    relative = [float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(layers, exact_layers, strict=True)]
    divergence = nn.functional.kl_div(
        logits.log_softmax(-1), exact_logits.log_softmax(-1), log_target=True, reduction="none"
    )
    return {
        "layer_error": statistics.mean(relative),
        "logit_error": float((logits - exact_logits).abs().mean() / exact_logits.abs().mean()),
        "divergence": float(divergence.sum(-1).mean()),
    }


def answers(model: nn.Module, subject: Subject) -> dict[str, float]:
    """Accuracy, AURC and coverage at 1 % risk of greedy answers, with the sequence's probability as confidence."""
    checkpoint = Checkpoint(model, subject.checkpoint.encoder)
    batches = batches_of(subject.test, checkpoint.encoder, batch_size=128)
    found = answer_batches(batches, checkpoint, max_new_tokens=8, accelerator="cpu", progress=False)
    rows = zip(found, subject.test["answers"], strict=True)
    accuracy = torch.tensor([vqa_accuracy(row["answer"], expected) for row, expected in rows], dtype=torch.float64)
    confidence = torch.tensor([row["log_prob"] for row in found], dtype=torch.float64).exp()
    coverage, _ = coverage_at_risk(confidence, accuracy, 0.01)
    return {
        "accuracy": float(accuracy.mean()),
        "aurc": float(aurc(confidence, accuracy)),
        "coverage_at_1pct_risk": float(coverage),
    }


def quantized(subject: Subject, method: str, bits: int, calibration: Calibration | None) -> tuple[nn.Module, float]:
    """A quantized copy of the model, and the loss after its scale search relative to before (1 without one)."""
    model = copy.deepcopy(subject.checkpoint.model)
    report = quantize_model(model, default_plan(Scheme(method, bits, GROUP_SIZE)), calibration)
    before, after = (sum(getattr(s, name) for s in report.scales) for name in ("loss_before", "loss_after"))
    return model, after / before if before else 1.0


def quality(subject: Subject, drawn: Sequence[Statistics]) -> list[dict[str, Any]]:
    """Each method at each width; scaled ones on several draws of the calibration set, answers on the first."""
    rows = [{"method": "none", "bits": 16, **answers(subject.checkpoint.model, subject)}]
    for bits in BITS:
        for method in PLAIN:
            model, _ = quantized(subject, method, bits, None)
            rows.append({"method": method, "bits": bits, **output_errors(model, subject), **answers(model, subject)})
        for name, (method, settings) in SCALED.items():
            found = []
            for number, measured in enumerate(drawn):
                model, loss = quantized(subject, method, bits, Calibration(measured, settings))
                found.append({"relative_loss": loss, **output_errors(model, subject)})
                if number == 0:
                    answered = answers(model, subject)
            means = {key: statistics.mean(row[key] for row in found) for key in found[0]}
            spread = {f"{key}_deviation": statistics.stdev(row[key] for row in found) for key in found[0]}
            rows.append({"method": name, "bits": bits, **means, **spread, **answered})
            print(rows[-1], flush=True)
    return rows


def cpu_seconds(work: Callable[[], Any], *, rounds: int = 1) -> tuple[float, Any]:
    """Seconds of computing that `work` takes, the least of some rounds, and what it gives.

    On one thread that is what a quiet machine would show; on a shared one, time on the wall is anything.
    """
    best, result = float("inf"), None
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def speed(subject: Subject, folder: Path) -> dict[str, Any]:
    """Fast against faithful on the same calibration set: seconds, and the loss as the faithful search judges it."""
    decoder = ResidentDecoder(subject.checkpoint.model, subject.path)

    def calibrate() -> tuple[list[CalibrationBatch], Statistics]:
        batches = subject.calibration_set(0)
        return batches, collect(decoder, batches, folder, key="bench")

    calibration_seconds, (batches, measured) = cpu_seconds(calibrate, rounds=3)
    rows = []
    for bits in BITS:
        planned = plan_of(subject, decoder.depth, bits)
        row: dict[str, Any] = {"bits": bits}
        for mode, rounds in (("fast", 3), ("faithful", 1)):
            settings = ScalingConfig(search=mode)
            search = partial(search_decoder, decoder, planned, statistics=measured, settings=settings, batches=batches)
            row[f"{mode}_seconds"], scales = cpu_seconds(search, rounds=rounds)
            row[f"{mode}_loss"] = judge_scales(
                decoder, scales, planned, statistics=measured, settings=ScalingConfig(search="fast"), batches=batches
            )
            row["unscaled_loss"] = sum(found.loss_before for found in scales)
        scale_and_pack = partial(quantized, subject, "rtn", bits, Calibration(measured, ScalingConfig(search="fast")))
        row["quantize_seconds"], _ = cpu_seconds(scale_and_pack, rounds=3)
        rows.append(row)
        print(row, flush=True)
    one = statistics.mean(row["quantize_seconds"] for row in rows)
    return {
        "widths": rows,
        "calibrate": calibration_seconds,
        "one_width": calibration_seconds + one,
        "four_widths": calibration_seconds + 4 * one,
    }


def plan_of(subject: Subject, depth: int, bits: int) -> Any:
    """Schemes of all decoder layers."""
    names = [name for name, module in subject.checkpoint.model.named_modules() if isinstance(module, nn.Linear)]
    schemes = {name: Scheme("rtn", bits, GROUP_SIZE) for name in names if name.startswith(f"{subject.path}.")}
    return by_layer(schemes, path=subject.path, depth=depth)


def measure(family: str, folder: Path, *, only_speed: bool) -> dict[str, Any]:
    """Everything about one reference model, or its times alone."""
    subject = load_subject(family)
    found: dict[str, Any] = {"speed": speed(subject, folder / f"{family}-speed")}
    if not only_speed:
        decoder = ResidentDecoder(subject.checkpoint.model, subject.path)
        drawn = [
            collect(decoder, subject.calibration_set(seed), folder / f"{family}-{seed}", key="bench")
            for seed in range(SEEDS)
        ]
        found |= {"ratios": [one.ratios.tolist() for one in drawn], "quality": quality(subject, drawn)}
    return found


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--page", action="store_true", help="write the page from the results that there are")
    parser.add_argument("--speed", action="store_true", help="measure times alone, and keep the other results")
    arguments = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not arguments.page:
        torch.set_num_threads(1)
        models = known.setdefault("models", {})
        with tempfile.TemporaryDirectory() as folder:
            for family in FAMILIES:
                models[family] = models.get(family, {}) | measure(family, Path(folder), only_speed=arguments.speed)
        known |= {
            "calibration_images": CALIBRATION_IMAGES,
            "held_out_images": HELD_OUT_IMAGES,
            "asked_images": ASKED_IMAGES,
            "seeds": SEEDS,
            "group_size": GROUP_SIZE,
            "torch": torch.__version__,
        }
        RESULTS.write_text(json.dumps(known, indent=2) + "\n")
    write_page(known, ROOT / "docs" / "mbq.md")


if __name__ == "__main__":
    main()
