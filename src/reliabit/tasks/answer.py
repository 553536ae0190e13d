"""`task=answer`: ask the model every question and write the predictions table, with the states a Selector reads."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.cache import evict_lru, touch
from reliabit.config import Config
from reliabit.files import write_manifest
from reliabit.inference.features import ANSWERED_BY, FEATURES
from reliabit.inference.predictions import PREDICTIONS, gather, gather_features, with_column, write_predictions
from reliabit.models.loading import Checkpoint, check_loadable
from reliabit.progress import step
from reliabit.tasks._answer_stores import answer_on_devices, answer_store, answerer_of
from reliabit.tasks._asked_questions import BAD_SAMPLES, TRAINING_SPLIT, asked_questions
from reliabit.tasks._cell import TimedPredictions, cell_record
from reliabit.tasks._model import QuantizedCheckpoint, check_fits, load_quantized
from reliabit.tasks._results import next_command, number_facts
from reliabit.tasks._served import ServedCheckpoint, remarks, served_checkpoint, served_store
from reliabit.tasks._sliced_columns import with_sliced_columns
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from reliabit.inference.answer_store import AnsweredChunk, AnswerStore, ChunkAnswerer

_FurtherPass = Callable[..., dict[str, list[float]]]
"""Asks a model once more about some questions and its answers to them; the values of each column that it adds."""


def answer(config: Config) -> None:
    """Write the predictions table of a configuration, and beside it what it is and what it cost."""
    set_up(config)
    if not config.engine.is_remote:
        check_loadable(config.model)
        check_fits(config)
    output = config.paths.output_folder()
    model, answered = answer_as_configured(config, features=output / FEATURES, listed_in=output / BAD_SAMPLES)
    write_predictions(answered.predictions, output / PREDICTIONS)
    write_manifest(output, [output / PREDICTIONS])
    record = cell_record(config, model, answered)
    record.write(output)
    rows = answered.predictions.num_rows
    show_result(
        f"{rows} predictions in {answered.seconds:.1f} s: {output / PREDICTIONS}",
        number_facts(config, record.efficiency),
        then=next_command(f"task={_after(config)}", f"task.predictions={output / PREDICTIONS}"),
    )


def _after(config: Config) -> str:
    """The task that goes on from here."""
    return "select" if config.confidence.needs_training() else "evaluate"


def answer_as_configured(
    config: Config,
    *,
    features: Path,
    listed_in: Path | None,
    loaded: "Callable[[QuantizedCheckpoint | ServedCheckpoint], None]" = lambda _: None,
) -> tuple[QuantizedCheckpoint | ServedCheckpoint, TimedPredictions]:
    """Load the model of a configuration and ask it everything that it is to be asked, on as many devices as it says.

    Where another process serves it, that one is asked.

    Args:
        config: The configuration.
        features: Where pooled states go, if an estimator reads them.
        listed_in: Where to list what is not asked; `None` where that was done before.
        loaded: Is told of the model before it answers.
    """
    shown = config.trainer.progress_bar
    with step("reading the questions", shown=shown):
        questions = asked_questions(config, training=config.confidence.needs_training(), listed_in=listed_in)
    if config.engine.is_remote:
        return _served_answers(config, questions, loaded=loaded)
    answer_on_devices(config, questions)
    with step(f"loading {config.model.name}, quant={config.quant.name}", shown=shown):
        model = load_quantized(config)
    loaded(model)
    return model, answer_questions(config, model, questions, features=features)


def _served_answers(
    config: Config, questions: "Dataset", *, loaded: Callable[[ServedCheckpoint], None]
) -> tuple[ServedCheckpoint, TimedPredictions]:
    """Ask an engine."""
    with served_checkpoint(config) as served:
        loaded(served)
        store = served_store(config, served)
        predictions, stored = _ask_all(config, store, questions, served.probed.answer_chunk)
    evict_lru(Path(config.paths.cache), limit=config.paths.cache_bytes())
    for sentence in remarks(predictions, longest=config.model.max_new_tokens):
        sys.stderr.write(f"{config.model.name}: {sentence}\n")
    seconds = sum(chunk.seconds for chunk in stored)
    return served, TimedPredictions(predictions=predictions, seconds=seconds, extra_seconds={}, peak_bytes=None)


def _ask_all(
    config: Config, store: "AnswerStore", questions: "Dataset", answerer: "ChunkAnswerer"
) -> "tuple[pa.Table, list[AnsweredChunk]]":
    """Ask some questions, but for those that were asked before."""
    shown, stored = config.trainer.progress_bar, []
    with step("answering", total=len(questions), unit="questions", shown=shown) as asked:
        for chunk in store.ask(questions, answerer):
            stored.append(chunk)
            # All of them are read again at the end; until then nobody may take them for forgotten.
            touch(found.folder for found in stored)
            asked.advance(len(chunk.questions))
    with step("gathering the answers", shown=shown):
        answered = with_sliced_columns(config, gather(stored))
        return answered.replace_schema_metadata({ANSWERED_BY: store.identity}), stored


def answer_questions(
    config: Config, model: QuantizedCheckpoint, questions: "Dataset", *, features: Path
) -> TimedPredictions:
    """Ask a loaded model some questions, but for those that it was asked before; see `answer_as_configured`."""
    store = answer_store(config)
    predictions, stored = _ask_all(config, store, questions, answerer_of(config, model, questions=len(questions)))
    if store.features is not None:
        gather_features(stored, features, predictions=predictions, settings=store.features, identity=store.identity)
    evict_lru(Path(config.paths.cache), limit=config.paths.cache_bytes())
    answers = [found for chunk in stored for found in chunk.answers]
    predictions, extra_seconds = _with_further_passes(config, model, questions, predictions, answers)
    return TimedPredictions(
        predictions=predictions,
        seconds=sum(chunk.seconds for chunk in stored),
        extra_seconds=extra_seconds,
        peak_bytes=max(chunk.peak_bytes for chunk in stored),
    )


def _with_further_passes(
    config: Config,
    model: QuantizedCheckpoint,
    questions: "Dataset",
    predictions: "pa.Table",
    answers: Sequence[dict[str, Any]],
) -> "tuple[pa.Table, dict[str, float]]":
    """Add what P(True), sampling and blank images take.

    Not for the training split, which no free-standing estimator reads.
    """
    how = {
        "batch_size": config.trainer.batch_size,
        "accelerator": config.trainer.accelerator,
        "progress": config.trainer.progress_bar,
    }
    rows = [row for row, split in enumerate(questions["split"]) if split != TRAINING_SPLIT]
    passes: dict[str, tuple[_FurtherPass, set[str]]] = {
        "p_true": (_p_true, {"p_true"}),
        "sampling": (_sampled, {"self_consistency", "semantic_entropy"}),
        "image_information": (_blanked, {"blank_mean_entropy", "blank_log_prob"}),
    }
    given = [answers[row] for row in rows]
    seconds = {}
    for name, (ask, columns) in passes.items():
        if not columns & config.confidence.needed_columns():
            continue
        start = time.perf_counter()
        for column, values in ask(config, model.checkpoint, questions.select(rows), given, **how).items():
            predictions = with_column(predictions, column, values, rows=rows)
        seconds[name] = time.perf_counter() - start
    return predictions, seconds


def _p_true(
    config: Config, checkpoint: Checkpoint, questions: "Dataset", answers: Sequence[dict[str, Any]], **how: Any
) -> dict[str, list[float]]:
    from reliabit.inference.further_passes import self_evaluations

    texts = [answer["answer"] for answer in answers]
    return {"p_true": self_evaluations(questions, texts, checkpoint, prompt=config.confidence.p_true, **how)}


def _sampled(
    config: Config, checkpoint: Checkpoint, questions: "Dataset", answers: Sequence[dict[str, Any]], **how: Any
) -> dict[str, list[float]]:
    from reliabit.confidence.sampling import self_consistency, semantic_entropy
    from reliabit.inference.further_passes import sample_answers

    settings, longest = config.confidence.sampling, config.model.max_new_tokens
    drawn = sample_answers(questions, checkpoint, settings=settings, max_new_tokens=longest, **how)
    return {
        "self_consistency": [
            self_consistency(greedy["answer"], sampled.answers) for greedy, sampled in zip(answers, drawn, strict=True)
        ],
        "semantic_entropy": [
            semantic_entropy(sampled.answers, sampled.log_probs, weighting="probability") for sampled in drawn
        ],
    }


def _blanked(
    _: Config, checkpoint: Checkpoint, questions: "Dataset", answers: Sequence[dict[str, Any]], **how: Any
) -> dict[str, list[float]]:
    from reliabit.inference.blanked_passes import score_blanked

    found = score_blanked(questions, [answer["tokens"] for answer in answers], checkpoint, **how)
    return {
        "mean_entropy": [answer["mean_entropy"] for answer in answers],
        "blank_mean_entropy": [scores.mean_entropy for scores in found],
        "blank_log_prob": [scores.log_prob for scores in found],
    }
