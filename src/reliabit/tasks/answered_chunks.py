"""How one chunk of questions is answered; kept answers are known by the code that this module reaches."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from reliabit.config import Config
from reliabit.inference.answer_store import Answers
from reliabit.inference.chunks import Chunk
from reliabit.inference.encoded_store import EncodedStore
from reliabit.inference.features import FeatureWriter
from reliabit.tasks.encoded_chunks import encode, in_order, loader
from reliabit.tasks.quantized import QuantizedCheckpoint


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
    from reliabit.inference.ordering import InTableOrder, restored

    ordered, order = in_order(chunk)
    found = encoded().encode(ordered, partial(encode, config, model.checkpoint, ordered))
    batches = (
        loader(config, model.checkpoint, ordered)
        if found is None
        else DataLoader(cast("Any", found.batches), batch_size=None)
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
