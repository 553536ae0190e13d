"""What encodes the questions of a configured model, which of them it takes, and whether it can be loaded at all."""

from pathlib import Path

from reliabit.models.admission import Admission, read_context_length
from reliabit.models.encoding import Encoder
from reliabit.models.loading import check_loadable, load_encoder
from reliabit.models.settings import ModelConfig


def encoder_of(model: ModelConfig) -> Encoder:
    """What encodes a model's questions."""
    return load_encoder(model)


def admission_of(model: ModelConfig, *, answer_tokens: int) -> Admission:
    """Which questions a model takes.

    Args:
        model: How it is asked.
        answer_tokens: Tokens to leave room for after the prompt.
    """
    return Admission(encoder_of(model), longest=read_context_length(Path(model.path)) - answer_tokens)


def check_model(model: ModelConfig) -> None:
    """Check all of a checkpoint that can be checked without its weights, before data is prepared for it.

    Raises:
        ReliabitError: A file of it is missing or damaged, or describes no model that can answer.
    """
    check_loadable(model)
