"""The stores that answers are kept in a chunk at a time."""

from pathlib import Path

from reliabit.confidence.estimator import needs_features
from reliabit.config import Config
from reliabit.inference.answer_store import AnswerStore
from reliabit.inference.encoded_store import EncodedStore
from reliabit.tasks.answer_identity import answering_identity, encoding_identity
from reliabit.tasks.quantized import QuantizedCheckpoint

CHUNK_BATCHES = 16
"""Batches a chunk: so much a killed run may lose."""


def answer_store(config: Config) -> AnswerStore:
    """Where the answers of a configuration are kept, under a digest of everything they depend on."""
    features = config.confidence.features if needs_features(config.confidence) else None
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
