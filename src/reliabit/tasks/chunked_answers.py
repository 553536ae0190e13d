"""The stores that answers are kept in a chunk at a time, and how one chunk is answered."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reliabit.config import Config
from reliabit.inference.answer_store import Answers, AnswerStore
from reliabit.inference.chunks import Chunk
from reliabit.inference.encoded_store import EncodedStore
from reliabit.inference.features import FeatureSettings, FeatureWriter
from reliabit.tasks.answer_identity import answering_identity, encoding_identity
from reliabit.tasks.estimators import needs_features
from reliabit.tasks.quantized import QuantizedCheckpoint

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from reliabit.models.encoding import Batch

CHUNK_BATCHES = 16
"""Batches a chunk: so much a killed run may lose."""


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
