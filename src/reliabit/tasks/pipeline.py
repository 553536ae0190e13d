"""`task=pipeline`: quantize, answer, select and evaluate in one process, recorded as one run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.report import build_report
from reliabit.identity import FINGERPRINT
from reliabit.inference.features import FEATURES
from reliabit.tasks.answer import Answered, answer_questions
from reliabit.tasks.calibrated import scales_table
from reliabit.tasks.estimators import needs_training
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import load_questions
from reliabit.tasks.run_identity import recorded_inputs, run_identity
from reliabit.tasks.runtime import set_up
from reliabit.tasks.select import fit_estimators
from reliabit.tracking.context import context_tags
from reliabit.tracking.opening import open_tracker
from reliabit.tracking.tracker import PARENT_TAG, TrackedRun, Tracker, read_parent

if TYPE_CHECKING:
    from mlflow.entities import Run

BASELINE_BITS = 16
"""The width of the weights that the checkpoints store unquantized, in bfloat16."""


def run_name(config: Config) -> str:
    """The run's name, such as `qwen2_vl_tiny·hqq·4b·s0`."""
    width = "" if config.quant.bits is None else f"·{config.quant.bits}b"
    return f"{config.model.name}·{config.quant.name}{width}·s{config.seed}"


def run_tags(config: Config) -> dict[str, str]:
    """What runs are filtered and compared by in the MLflow UI."""
    return {
        "kind": "cell",
        "model": config.model.name,
        "quant": config.quant.name,
        "bits": str(BASELINE_BITS if config.quant.method == "none" else config.quant.bits or "mixed"),
        "data": config.data.name,
    }


def efficiency(model: QuantizedCheckpoint, answered: Answered) -> dict[str, float]:
    """What the configuration costs."""
    bits = model.size.quantized_effective_bits
    return {
        "efficiency/stored_bytes": float(model.size.stored_bytes),
        "efficiency/resident_bytes": float(model.size.resident_bytes),
        "efficiency/effective_bits": float(BASELINE_BITS) if bits is None else bits,
        "efficiency/effective_bits_whole_model": model.size.effective_bits,
        "efficiency/samples_per_second": answered.predictions.num_rows / answered.seconds,
        "efficiency/peak_memory_bytes": float(answered.peak_bytes),
        **{f"efficiency/{name}_seconds": seconds for name, seconds in answered.extra_seconds.items()},
    }


def pipeline(config: Config) -> float:
    """Run one configuration from checkpoint to report, unless a finished run has its numbers; returns its AURC."""
    set_up(config)
    tracker = open_tracker(config.tracking)
    parent = read_parent(config.tracking.parent_file)
    with recorded_failure(config, tracker, parent=parent):
        identity = run_identity(config)
    finished = None if config.sweep.force else tracker.find_finished(identity.hex)
    if finished is not None:
        return reuse(finished, config, tracker, parent=parent)
    if parent is not None:
        tracker.supersede(identity.hex, parent=parent)
    tags = {**run_tags(config), **identity.to_tags(), **context_tags()}
    with tracker.run(run_name(config), tags=tags, parent=parent) as run:
        run.log_parameters(to_mapping(config))
        run.log_text(yaml.safe_dump(dict(to_mapping(config)), sort_keys=False), "config.yaml")
        run.log_text(identity.to_json(), FINGERPRINT)
        run.log_inputs(recorded_inputs(config))
        return _run(config, run)


@contextmanager
def recorded_failure(config: Config, tracker: Tracker, *, parent: str | None) -> Iterator[None]:
    """Record what fails before a run has an identity as a failed run all the same."""
    try:
        yield
    except ReliabitError as error:
        with tracker.run(run_name(config), tags=run_tags(config), parent=parent):
            raise error


def reuse(finished: "Run", config: Config, tracker: Tracker, *, parent: str | None) -> float:
    """Take over the numbers and files of a finished run of the same identity.

    Args:
        finished: The run.
        config: The configuration that asked for it.
        tracker: Where it is recorded.
        parent: The sweep that it becomes a member of as well.
    """
    if parent is not None and finished.data.tags.get(PARENT_TAG) != parent:
        tracker.adopt(finished.info.run_id, parent=parent)
    tracker.fetch_all(finished.info.run_id, config.paths.output_folder())
    sys.stdout.write(
        f"{run_name(config)} is finished already: run {finished.info.run_id} has the same identity; its files are in "
        f"{config.paths.output_folder()} (sweep.force=true repeats it)\n"
    )
    return float(finished.data.metrics["selective/aurc"])


def _run(config: Config, run: TrackedRun) -> float:
    questions = load_questions(config, training=needs_training(config.confidence))
    model = load_quantized(config)
    if model.report is not None:
        run.log_text("".join(f"{name}\n" for name in model.report.names), "converted_modules.txt")
        if model.report.scales:
            run.log_text(scales_table(model.report.scales), "scales.txt")
    output = config.paths.output_folder()
    answered = answer_questions(config, model, questions, features=output / FEATURES)
    selected = fit_estimators(config, answered.predictions, features=output / FEATURES)
    written = selected.write(output)
    title = f"{run_name(config)} · {config.data.name}"
    report = build_report(selected.predictions, config.evaluation, title=title)
    run.log_metrics({**report.recorded(), **selected.recorded(), **efficiency(model, answered)})
    for path in [*written, *report.write(output)]:
        folder = path.parent.relative_to(output).as_posix()
        run.log_file(path, folder=None if folder == "." else folder)
    return report.metrics["selective/aurc"]
