"""`task=answer`: ask the model every question and write the predictions table, with the states a Selector reads."""

import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.cache import evict_lru, touch
from reliabit.config import Config
from reliabit.files import write_manifest
from reliabit.inference.features import ANSWERED_BY, FEATURES
from reliabit.inference.gathering import gather, gather_features
from reliabit.inference.predictions import PREDICTIONS, with_column, write_predictions
from reliabit.tasks.answered_chunks import answer_chunk
from reliabit.tasks.asked import BAD_SAMPLES, asked_questions
from reliabit.tasks.cells import Answered, answered_cell
from reliabit.tasks.chunked_answers import answer_store, encoded_store
from reliabit.tasks.encoders import check_model
from reliabit.tasks.estimators import needs_training
from reliabit.tasks.parallel_answers import answer_on_devices
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import TRAINING_SPLIT
from reliabit.tasks.runtime import set_up

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


SAMPLED = ("self_consistency", "semantic_entropy")


def answer(config: Config) -> None:
    """Write the predictions table of a configuration, and beside it what it is and what it cost."""
    set_up(config)
    check_model(config.model)
    output = config.paths.output_folder()
    questions = asked_questions(config, training=needs_training(config.confidence), listed_in=output / BAD_SAMPLES)
    answer_on_devices(config, questions)
    model = load_quantized(config)
    answered = answer_questions(config, model, questions, features=output / FEATURES)
    write_predictions(answered.predictions, output / PREDICTIONS)
    write_manifest(output, [output / PREDICTIONS])
    answered_cell(config, model, answered).write(output)
    sys.stdout.write(
        f"{answered.predictions.num_rows} predictions in {answered.seconds:.1f} s: {output / PREDICTIONS}\n"
    )


def answer_questions(config: Config, model: QuantizedCheckpoint, questions: "Dataset", *, features: Path) -> Answered:
    """Ask a loaded model some questions, but for those that it was asked before.

    Args:
        config: How to ask, and which estimators the answers are for.
        model: The model.
        questions: What to ask, see `asked_questions`.
        features: Where pooled states go, if an estimator reads them.
    """
    from tqdm import tqdm

    store, stored = answer_store(config), []
    # Made for the first chunk that is not found: its identity is a hash of the weights that see.
    encoded = cache(partial(encoded_store, config, model, questions=len(questions)))
    shown = None if config.trainer.progress_bar else True
    with tqdm(total=len(questions), desc="answer", unit=" questions", disable=shown) as bar:
        for chunk in store.ask(questions, partial(answer_chunk, config, model, encoded)):
            stored.append(chunk)
            # All of them are read again at the end; until then nobody may take them for forgotten.
            touch(found.folder for found in stored)
            bar.update(len(chunk.questions))
    predictions = gather(stored).replace_schema_metadata({ANSWERED_BY: store.identity})
    if store.features is not None:
        gather_features(stored, features, predictions=predictions, settings=store.features, identity=store.identity)
    evict_lru(Path(config.paths.cache), limit=config.paths.cache_bytes())
    predictions, extra_seconds = _with_further_passes(config, model, questions, predictions)
    return Answered(
        predictions=predictions,
        seconds=sum(chunk.seconds for chunk in stored),
        extra_seconds=extra_seconds,
        peak_bytes=max(chunk.peak_bytes for chunk in stored),
    )


def _how(config: Config) -> dict[str, Any]:
    return {
        "batch_size": config.trainer.batch_size,
        "accelerator": config.trainer.accelerator,
        "progress": config.trainer.progress_bar,
    }


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
