"""From a model and a calibration set to statistics on disk: one walk forwards, one walk backwards."""

from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.quant.mbq.calibration_set import MODALITIES, CalibrationBatch, Tokens, check_batches, draw_tokens
from reliabit.quant.mbq.calibration_statistics import (
    GroupStatistics,
    LayerStatistics,
    Statistics,
    read_statistics,
    write_layer,
    write_record,
)
from reliabit.quant.mbq.decoder import Decoder, run_layer
from reliabit.quant.mbq.groups import GROUPS, Observed, observing
from reliabit.quant.mbq.sensitivity import PLACES, check_finite, ratio_intervals, token_gradients
from reliabit.quant.settings import CalibrationConfig


def collect(
    decoder: Decoder,
    batches: Sequence[CalibrationBatch],
    folder: Path,
    *,
    key: str,
    settings: CalibrationConfig | None = None,
    spool: MutableMapping[tuple[int, int], Tensor] | None = None,
) -> Statistics:
    """Measure what every layer sees and how sensitive it is, and write it down; for all bit widths at once.

    Args:
        decoder: The unquantized decoder.
        batches: The calibration set.
        folder: Where to; it appears whole or not at all.
        key: What the statistics depend on (`statistics_key`).
        settings: What is kept; the defaults where it is None.
        spool: Where every layer's inputs wait for the walk backwards, by layer and batch; in memory where it is None.

    Returns:
        The statistics, as they are on disk.

    Raises:
        ReliabitError: A calibration set without image or answer tokens, or gradients that are not finite.
    """
    check_batches(batches)
    settings, spool = settings or CalibrationConfig(), {} if spool is None else spool
    tokens = draw_tokens(batches, per_modality=settings.tokens, contexts=settings.contexts, seed=settings.seed)
    with staged_folder(folder) as staging:
        hidden, keywords = _first_inputs(decoder, batches)
        attention = _walk(decoder, batches, tokens, settings, staging, hidden=hidden, keywords=keywords, spool=spool)
        _check_attention(attention)
        gradients = token_gradients(decoder, batches, keywords=keywords, outputs=hidden, spool=spool, tokens=tokens)
        write_record(
            staging,
            key=key,
            path=decoder.path,
            tokens=tokens,
            gradients=gradients,
            attended=[batches[number].attended for number in tokens.contexts],
            attention=attention,
            extra={"settings": settings.collected(), **summary(gradients, tokens)},
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
    settings: CalibrationConfig,
    folder: Path,
    *,
    hidden: list[Tensor],
    keywords: Sequence[dict[str, Any]],
    spool: MutableMapping[tuple[int, int], Tensor],
) -> list[dict[str, Any]]:
    """Walk forwards, turning `hidden` from the first layer's inputs into the last one's outputs.

    Returns how the first layer's attention was called in the batches that are kept whole.
    """
    attention: list[dict[str, Any]] = []
    for index in range(decoder.depth):
        collector = LayerCollector(tokens, settings.gram)
        with decoder.layer(index) as layer:
            for number, batch in enumerate(batches):
                spool[index, number] = hidden[number]
                hidden[number] = collector.run(layer, hidden[number], keywords[number], batch, number)
                _check_states(hidden[number], f"outputs of {decoder.path}.{index}", batch, number)
        write_layer(folder, index, collector.statistics())
        attention = attention or collector.attention
    return attention


def _check_states(states: Tensor, what: str, batch: CalibrationBatch, number: int) -> None:
    """Refuse states that overflowed; those at padding mean nothing."""
    check_finite(states[batch.attended], what, dtype=states.dtype, batch=number)


@dataclass
class LayerCollector:
    """Gathers the statistics of one layer, a batch at a time.

    Attributes:
        tokens: The calibration set's tokens.
        with_gram: Gather Gram matrices too.
        attention: How the attention was called in the batches that are kept whole.
    """

    tokens: Tokens
    with_gram: bool
    attention: list[dict[str, Any]] = field(default_factory=list)
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _grams: dict[str, Tensor] = field(default_factory=dict)
    _samples: dict[str, list[Tensor]] = field(default_factory=dict)
    _contexts: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def run(
        self, layer: nn.Module, hidden: Tensor, keywords: dict[str, Any], batch: CalibrationBatch, number: int
    ) -> Tensor:
        """Run a batch, the `number`-th of the calibration set, through the layer, and take in what its groups see."""
        with observing(layer) as seen:
            output = run_layer(layer, hidden, keywords)
        kinds = self.tokens.kinds[self.tokens.of_batch(number)].to(hidden.device)
        kept = self.tokens.drawn_of_batch(number).to(hidden.device)
        for name, inputs in seen.inputs.items():
            self._take_in(name, inputs[batch.attended], kinds.long(), kept)
        if number in self.tokens.contexts:
            self._keep_context(seen)
        return output

    def statistics(self) -> LayerStatistics:
        """What was gathered."""
        counts = self.tokens.counts.clamp_min(1)
        groups = {}
        for group in GROUPS:
            name, sums = group.name, self._sums[group.name]
            grams = self._grams.get(name)
            groups[name] = GroupStatistics(
                magnitude=(sums / counts.to(sums)[:, None]).cpu(),
                sample=torch.cat(self._samples[name]).cpu(),
                gram=None if grams is None else (grams / counts.to(grams)[:, None, None]).cpu(),
            )
        return LayerStatistics(groups, tuple(self._contexts))

    def _take_in(self, name: str, inputs: Tensor, kinds: Tensor, kept: Tensor) -> None:
        values = inputs.float()
        empty = torch.zeros((len(MODALITIES), values.shape[1]), device=values.device)
        self._sums.setdefault(name, empty).index_add_(0, kinds, values.abs())
        self._samples.setdefault(name, []).append(inputs[kept])
        if self.with_gram:
            parts = [values[kinds == kind] for kind in range(len(MODALITIES))]
            grams = torch.stack([part.T @ part for part in parts])
            self._grams[name] = self._grams[name] + grams if name in self._grams else grams

    def _keep_context(self, seen: Observed) -> None:
        self._contexts.append(seen.inputs["qkv"].cpu().clone())
        self.attention.append(seen.attention)


def _check_attention(keywords: Sequence[dict[str, Any]]) -> None:
    """Refuse arguments that a file cannot hold: no tensor, tuple of tensors or plain value."""
    for arguments in keywords:
        for name, value in arguments.items():
            parts = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(part, Tensor | bool | int | float | str | None) for part in parts):
                raise ReliabitError(f"the decoder's attention is given {name}, a {type(value).__name__}, to calibrate")
