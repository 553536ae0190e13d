"""How one chunk of questions is encoded and seen; what is kept of it is known by the code that this module reaches."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from reliabit.config import Config
from reliabit.inference.chunks import Chunk
from reliabit.inference.ordering import by_length
from reliabit.models.loading import Checkpoint

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from reliabit.models.encoding import Batch


def in_order(chunk: Chunk) -> tuple[Chunk, list[int]]:
    """A chunk in the order in which it is batched, and the row of the chunk that each question comes from."""
    order = by_length(chunk.questions)
    return replace(chunk, questions=chunk.questions.select(order)), order


def encode(config: Config, checkpoint: Checkpoint, chunk: Chunk, numbers: Iterable[int]) -> "list[Batch]":
    """Encode some batches of a chunk, by their numbers, and see their images."""
    from reliabit.inference.predicting import predict
    from reliabit.inference.seeing import Seeing

    batches = loader(config, checkpoint, chunk, numbers=numbers)
    seen = predict(Seeing(checkpoint), batches, accelerator=config.trainer.accelerator, progress=False)
    return [batch for [batch] in seen]


def loader(
    config: Config, checkpoint: Checkpoint, chunk: Chunk, *, numbers: Iterable[int] | None = None
) -> "DataLoader[Any]":
    """Encodes the batches of a chunk, all of them or those of some numbers."""
    from torch.utils.data import DataLoader

    size, questions = config.trainer.batch_size, chunk.questions
    if numbers is not None:
        rows = range(len(questions))
        questions = questions.select([row for number in numbers for row in rows[number * size : (number + 1) * size]])
    return DataLoader(cast("Any", questions), batch_size=size, shuffle=False, collate_fn=checkpoint.encoder)
