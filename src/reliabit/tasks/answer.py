"""`task=answer`: ask the model every question and write the predictions table, with the states a Selector reads."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reliabit.cache import keep_room, touch
from reliabit.config import Config
from reliabit.inference.answer_store import Answers, AnswerStore, gather, gather_features
from reliabit.inference.chunks import Chunk
from reliabit.inference.encoded_store import EncodedStore
from reliabit.inference.features import ANSWERED_BY, FEATURES, FeatureSettings, FeatureWriter
from reliabit.inference.predictions import PREDICTIONS, with_column, write_predictions
from reliabit.tasks.answer_identity import answering_identity, encoding_identity
from reliabit.tasks.cells import answered_cell
from reliabit.tasks.estimators import needs_features, needs_training
from reliabit.tasks.parallel_answers import answer_on_devices
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import TRAINING_SPLIT, load_questions
from reliabit.tasks.runtime import set_up

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from torch.utils.data import DataLoader

    from reliabit.models.encoding import Batch

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
    """Write the predictions table of a configuration, and beside it what it is and what it cost."""
    set_up(config)
    questions = load_questions(config, training=needs_training(config.confidence))
    output = config.paths.output_folder()
    answer_on_devices(config, questions)
    model = load_quantized(config)
    answered = answer_questions(config, model, questions, features=output / FEATURES)
    write_predictions(answered.predictions, output / PREDICTIONS)
    answered_cell(config, model, answered).write(output)
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
    keep_room(Path(config.paths.cache), limit=config.paths.cache_bytes())
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


def encoded_store(config: Config, model: QuantizedCheckpoint, *, questions: int) -> EncodedStore:
    """Where encoded questions are kept for every model that sees as this one does."""
    return EncodedStore(
        folder=Path(config.paths.cache) / "encoded",
        identity=encoding_identity(config, model.checkpoint.model),
        batch_size=config.trainer.batch_size,
        questions=questions,
        room=config.paths.cache_bytes(),
    )


def answer_chunk(
    config: Config,
    model: QuantizedCheckpoint,
    encoded: Callable[[], EncodedStore],
    chunk: Chunk,
    writer: FeatureWriter | None,
) -> Answers:
    """Answer a chunk of questions, encoded before or now."""
    from torch.utils.data import DataLoader

    from reliabit.inference.answering import answer_batches
    from reliabit.inference.ordering import InTableOrder, by_length, restored

    order = by_length(chunk.questions)
    ordered = replace(chunk, questions=chunk.questions.select(order))
    found = encoded().encode(ordered, partial(_encode, config, model, ordered))
    batches = (
        _loader(config, model, ordered) if found is None else DataLoader(cast("Any", found.batches), batch_size=None)
    )
    start = time.perf_counter()
    answers = answer_batches(
        batches,
        model.checkpoint,
        max_new_tokens=config.model.max_new_tokens,
        accelerator=config.trainer.accelerator,
        progress=False,
        features=None if writer is None else InTableOrder(writer, order),
    )
    seconds = time.perf_counter() - start + (0.0 if found is None else found.seconds)
    return Answers(restored(answers, order), seconds=seconds)


def _encode(config: Config, model: QuantizedCheckpoint, chunk: Chunk, numbers: Iterable[int]) -> "list[Batch]":
    from reliabit.inference.predicting import predict
    from reliabit.inference.seeing import Seeing

    batches = _loader(config, model, chunk, numbers=numbers)
    seen = predict(Seeing(model.checkpoint), batches, accelerator=config.trainer.accelerator, progress=False)
    return [batch for [batch] in seen]


def _loader(
    config: Config, model: QuantizedCheckpoint, chunk: Chunk, *, numbers: Iterable[int] | None = None
) -> "DataLoader[Any]":
    """Encodes the batches of a chunk, all of them or those of some numbers."""
    from torch.utils.data import DataLoader

    size, questions = config.trainer.batch_size, chunk.questions
    if numbers is not None:
        rows = range(len(questions))
        questions = questions.select([row for number in numbers for row in rows[number * size : (number + 1) * size]])
    return DataLoader(cast("Any", questions), batch_size=size, shuffle=False, collate_fn=model.checkpoint.encoder)


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
