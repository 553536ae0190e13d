"""`task=answer`: ask the model every question and write the predictions table, with the states a Selector reads."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.config import Config
from reliabit.inference.features import (
    FEATURES,
    KEY_COLUMNS,
    FeatureSettings,
    FeatureWriter,
    feature_writer,
)
from reliabit.inference.memory import peak_memory, reset_peak_memory
from reliabit.inference.predictions import PREDICTIONS, predictions_table, with_column, write_predictions
from reliabit.tasks.estimators import needs_features, needs_training
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import TRAINING_SPLIT, load_questions
from reliabit.tasks.runtime import set_up

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SAMPLED = ("self_consistency", "semantic_entropy")


@dataclass(frozen=True)
class Answered:
    """Predictions, and what making them took.

    Attributes:
        predictions: The predictions table.
        seconds: Time spent answering, loading and further passes left out.
        extra_seconds: Time of the further passes by the estimator that takes them.
        peak_bytes: The largest memory of the process (or the accelerator) while answering.
    """

    predictions: "pa.Table"
    seconds: float
    extra_seconds: dict[str, float]
    peak_bytes: int


def answer(config: Config) -> None:
    """Write the predictions table of a configuration."""
    set_up(config)
    questions = load_questions(config, training=needs_training(config.confidence))
    output = config.paths.output_folder()
    answered = answer_questions(config, load_quantized(config), questions, features=output / FEATURES)
    write_predictions(answered.predictions, output / PREDICTIONS)
    sys.stdout.write(
        f"{answered.predictions.num_rows} predictions in {answered.seconds:.1f} s: {output / PREDICTIONS}\n"
    )


def answer_questions(config: Config, model: QuantizedCheckpoint, questions: "Dataset", *, features: Path) -> Answered:
    """Ask a loaded model some questions.

    Args:
        config: How to ask, and which estimators the answers are for.
        model: The model.
        questions: What to ask, see `load_questions`.
        features: Where pooled states go, if an estimator reads them.
    """
    from reliabit.inference.answering import answer_table

    reset_peak_memory()
    start = time.perf_counter()
    with _features(config, questions, folder=features) as writer:
        answers = answer_table(
            questions,
            model.checkpoint,
            max_new_tokens=config.model.max_new_tokens,
            features=writer,
            **_how(config),
        )
    seconds = time.perf_counter() - start
    predictions = predictions_table(questions, answers)
    predictions, extra_seconds = _with_further_passes(config, model, questions, predictions)
    return Answered(predictions=predictions, seconds=seconds, extra_seconds=extra_seconds, peak_bytes=peak_memory())


def _how(config: Config) -> dict[str, Any]:
    return {
        "batch_size": config.trainer.batch_size,
        "accelerator": config.trainer.accelerator,
        "progress": config.trainer.progress_bar,
    }


def _features(config: Config, questions: "Dataset", *, folder: Path) -> AbstractContextManager[FeatureWriter | None]:
    if not needs_features(config.confidence):
        return nullcontext()
    settings = FeatureSettings(layer=config.confidence.features.layer, dtype=config.confidence.features.dtype)
    keys = questions.select_columns(list(KEY_COLUMNS)).with_format("arrow")[:]
    return feature_writer(folder, keys=keys, settings=settings)


def _with_further_passes(
    config: Config, model: QuantizedCheckpoint, questions: "Dataset", predictions: "pa.Table"
) -> "tuple[pa.Table, dict[str, float]]":
    """Add what P(True) and sampling take; not for the training split, which no free-standing estimator reads."""
    wanted, seconds = config.confidence.estimators, {}
    rows = [row for row, split in enumerate(questions["split"]) if split != TRAINING_SPLIT]
    start = time.perf_counter()
    if "p_true" in wanted:
        answers = predictions["answer"].take(rows).to_pylist()
        values = _p_true(config, model, questions.select(rows), answers)
        predictions = with_column(predictions, "p_true", values, rows=rows)
        seconds["p_true"] = time.perf_counter() - start
    start = time.perf_counter()
    if set(SAMPLED) & set(wanted):
        answers = predictions["answer"].take(rows).to_pylist()
        for name, values in _sampled(config, model, questions.select(rows), answers).items():
            predictions = with_column(predictions, name, values, rows=rows)
        seconds["sampling"] = time.perf_counter() - start
    return predictions, seconds


def _p_true(config: Config, model: QuantizedCheckpoint, questions: "Dataset", answers: Sequence[str]) -> list[float]:
    from reliabit.inference.self_evaluation import SelfEvaluationPrompt, self_evaluations

    prompt = SelfEvaluationPrompt(**vars(config.confidence.p_true))
    return self_evaluations(questions, answers, model.checkpoint, prompt=prompt, **_how(config))


def _sampled(
    config: Config, model: QuantizedCheckpoint, questions: "Dataset", answers: Sequence[str]
) -> dict[str, list[float]]:
    from reliabit.confidence.sampling import self_consistency, semantic_entropy
    from reliabit.inference.sampling import SamplingSettings, sample_answers

    settings = SamplingSettings(**vars(config.confidence.sampling), seed=config.seed)
    drawn = sample_answers(
        questions, model.checkpoint, settings=settings, max_new_tokens=config.model.max_new_tokens, **_how(config)
    )
    return {
        "self_consistency": [
            self_consistency(greedy, sampled.answers) for greedy, sampled in zip(answers, drawn, strict=True)
        ],
        "semantic_entropy": [
            semantic_entropy(sampled.answers, sampled.log_probs, weighting="probability") for sampled in drawn
        ],
    }
