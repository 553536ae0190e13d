"""`task=answer`: ask the model every question and write the predictions table, with the states a Selector reads."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.config import Config
from reliabit.inference.answer_store import AnswerStore, gather, gather_features
from reliabit.inference.features import ANSWERED_BY, FEATURES, FeatureSettings, FeatureWriter
from reliabit.inference.predictions import PREDICTIONS, with_column, write_predictions
from reliabit.tasks.answer_identity import answering_identity
from reliabit.tasks.estimators import needs_features, needs_training
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import TRAINING_SPLIT, load_questions
from reliabit.tasks.runtime import set_up

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

CHUNK_BATCHES = 16
"""Batches a chunk: so much a killed run may lose."""

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
    """Ask a loaded model some questions, but for those that it was asked before.

    Args:
        config: How to ask, and which estimators the answers are for.
        model: The model.
        questions: What to ask, see `load_questions`.
        features: Where pooled states go, if an estimator reads them.
    """
    from tqdm import tqdm

    store, stored = answer_store(config), []
    shown = None if config.trainer.progress_bar else True
    with tqdm(total=len(questions), desc="answer", unit=" questions", disable=shown) as bar:
        for chunk in store.ask(questions, partial(_answer_chunk, config, model)):
            stored.append(chunk)
            bar.update(len(chunk.questions))
    predictions = gather(stored).replace_schema_metadata({ANSWERED_BY: store.identity})
    if store.features is not None:
        gather_features(stored, features, predictions=predictions, settings=store.features, identity=store.identity)
    predictions, extra_seconds = _with_further_passes(config, model, questions, predictions)
    return Answered(
        predictions=predictions,
        seconds=sum(chunk.seconds for chunk in stored),
        extra_seconds=extra_seconds,
        peak_bytes=max(chunk.peak_bytes for chunk in stored),
    )


def answer_store(config: Config) -> AnswerStore:
    """Where the answers of a configuration are kept, under a digest of everything they depend on."""
    features = None
    if needs_features(config.confidence):
        features = FeatureSettings(layer=config.confidence.features.layer, dtype=config.confidence.features.dtype)
    return AnswerStore(
        folder=Path(config.paths.cache) / "answers",
        identity=answering_identity(config, features=features),
        chunk=CHUNK_BATCHES * config.trainer.batch_size,
        features=features,
    )


def _how(config: Config) -> dict[str, Any]:
    return {
        "batch_size": config.trainer.batch_size,
        "accelerator": config.trainer.accelerator,
        "progress": config.trainer.progress_bar,
    }


def _answer_chunk(
    config: Config, model: QuantizedCheckpoint, questions: "Dataset", writer: FeatureWriter | None
) -> list[dict[str, Any]]:
    from reliabit.inference.answering import answer_table

    return answer_table(
        questions,
        model.checkpoint,
        max_new_tokens=config.model.max_new_tokens,
        features=writer,
        **{**_how(config), "progress": False},
    )


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
