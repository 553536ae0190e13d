"""`task=pipeline`: quantize, answer, select and evaluate in one process, recorded as one run."""

import yaml

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.evaluation.report import build_report
from reliabit.inference.features import FEATURES
from reliabit.tasks.answer import Answered, answer_questions
from reliabit.tasks.estimators import needs_training
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import load_questions
from reliabit.tasks.runtime import set_up
from reliabit.tasks.select import fit_estimators
from reliabit.tracking.tracker import TrackedRun, Tracker, read_parent

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
    """Run one configuration from checkpoint to report; returns its AURC."""
    set_up(config)
    tracking = config.tracking
    tracker = Tracker(uri=tracking.uri, artifacts=tracking.artifacts, experiment=tracking.experiment)
    parent = read_parent(tracking.parent_file)
    with tracker.run(run_name(config), tags=run_tags(config), parent=parent) as run:
        run.log_parameters(to_mapping(config))
        run.log_text(yaml.safe_dump(dict(to_mapping(config)), sort_keys=False), "config.yaml")
        return _run(config, run)


def _run(config: Config, run: TrackedRun) -> float:
    questions = load_questions(config, training=needs_training(config.confidence))
    model = load_quantized(config)
    if model.report is not None:
        run.log_text("".join(f"{name}\n" for name in model.report.names), "converted_modules.txt")
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
