"""From a model and a calibration set to statistics on disk: one walk forwards, one walk backwards."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliabit.files import staged_folder
from reliabit.quant.mbq.batch import MODALITIES, CalibrationBatch, check_batches
from reliabit.quant.mbq.decoder import Decoder
from reliabit.quant.mbq.identity import CollectionSettings
from reliabit.quant.mbq.sensitivity import PLACES, check_finite, ratio_intervals, token_gradients
from reliabit.quant.mbq.spool import MemorySpool, Spool
from reliabit.quant.mbq.statistics import LayerCollector, check_attention
from reliabit.quant.mbq.store import Statistics, read_statistics, write_layer, write_record
from reliabit.quant.mbq.tokens import Tokens, draw_tokens


def collect(
    decoder: Decoder,
    batches: Sequence[CalibrationBatch],
    folder: Path,
    *,
    key: str,
    settings: CollectionSettings | None = None,
    spool: Spool | None = None,
) -> Statistics:
    """Measure what every layer sees and how sensitive it is, and write it down; for all bit widths at once.

    Args:
        decoder: The unquantized decoder.
        batches: The calibration set.
        folder: Where to; it appears whole or not at all.
        key: What the statistics depend on (`identity.statistics_key`).
        settings: What is kept; the defaults where it is None.
        spool: Where hidden states wait; in memory where it is None.

    Returns:
        The statistics, as they are on disk.

    Raises:
        ReliabitError: A calibration set without image or answer tokens, or gradients that are not finite.
    """
    check_batches(batches)
    settings, spool = settings or CollectionSettings(), spool or MemorySpool()
    tokens = draw_tokens(batches, per_modality=settings.tokens, contexts=settings.contexts, seed=settings.seed)
    with staged_folder(folder) as staging:
        hidden, keywords = _first_inputs(decoder, batches)
        attention = _walk(decoder, batches, tokens, settings, staging, hidden=hidden, keywords=keywords, spool=spool)
        check_attention(attention)
        gradients = token_gradients(decoder, batches, keywords=keywords, outputs=hidden, spool=spool, tokens=tokens)
        write_record(
            staging,
            key=key,
            path=decoder.path,
            tokens=tokens,
            gradients=gradients,
            attended=[batches[number].attended for number in tokens.contexts],
            attention=attention,
            extra={"settings": asdict(settings), **summary(gradients, tokens)},
        )
    return read_statistics(folder, key=key)


def summary(gradients: Tensor, tokens: Tokens) -> dict[str, Any]:
    """What a reader wants to know of statistics: token counts, and each layer's ratios with their intervals."""
    intervals = ratio_intervals(gradients, tokens)
    return {
        "tokens": dict(zip(MODALITIES, tokens.counts.tolist(), strict=True)),
        "sequences": int(tokens.sequences.max()) + 1,
        "ratios": [dict(zip(PLACES, map(asdict, layer), strict=True)) for layer in intervals],
    }


def _first_inputs(decoder: Decoder, batches: Sequence[CalibrationBatch]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    found = [decoder.inputs(batch) for batch in batches]
    for number, (inputs, batch) in enumerate(zip(found, batches, strict=True)):
        _check_states(inputs.hidden, "inputs of the decoder", batch, number)
    return [inputs.hidden for inputs in found], [inputs.keywords for inputs in found]


@torch.no_grad()
def _walk(
    decoder: Decoder,
    batches: Sequence[CalibrationBatch],
    tokens: Tokens,
    settings: CollectionSettings,
    folder: Path,
    *,
    hidden: list[Tensor],
    keywords: Sequence[dict[str, Any]],
    spool: Spool,
) -> list[dict[str, Any]]:
    """Walk forwards, turning `hidden` from the first layer's inputs into the last one's outputs.

    Returns:
        How the first layer's attention was called in the batches that are kept whole.
    """
    attention: list[dict[str, Any]] = []
    for index in range(decoder.depth):
        collector = LayerCollector(tokens, settings.gram)
        with decoder.layer(index) as layer:
            for number, batch in enumerate(batches):
                spool.put(index, number, hidden[number])
                hidden[number] = collector.run(layer, hidden[number], keywords[number], batch, number)
                _check_states(hidden[number], f"outputs of {decoder.path}.{index}", batch, number)
        write_layer(folder, index, collector.statistics())
        attention = attention or collector.attention
    return attention


def _check_states(states: Tensor, what: str, batch: CalibrationBatch, number: int) -> None:
    """Refuse states that overflowed; those at padding mean nothing."""
    check_finite(states[batch.attended], what, dtype=states.dtype, batch=number)
