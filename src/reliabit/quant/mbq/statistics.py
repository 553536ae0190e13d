"""One pass over the calibration set: what each group of each layer sees, for all bit widths at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.batch import MODALITIES, CalibrationBatch
from reliabit.quant.mbq.decoder import run_layer
from reliabit.quant.mbq.groups import GROUPS
from reliabit.quant.mbq.observation import Observed, observing
from reliabit.quant.mbq.tokens import Tokens


@dataclass(frozen=True)
class GroupStatistics:
    """What the linear layers of a group are given.

    Attributes:
        magnitude: Mean magnitude of each channel by modality, float32 `[modalities, channels]`; 0 where a modality
            has no tokens.
        sample: The inputs of the tokens that are kept, `[kept, channels]`.
        gram: `X.T @ X / tokens` by modality, float32 `[modalities, channels, channels]`, if it was asked for.
    """

    magnitude: Tensor
    sample: Tensor
    gram: Tensor | None = None


@dataclass(frozen=True)
class LayerStatistics:
    """What the groups of a layer are given.

    Attributes:
        groups: By name of the group.
        contexts: The attention's inputs in the batches that are kept whole, `[sequences, tokens, width]` each.
    """

    groups: dict[str, GroupStatistics]
    contexts: tuple[Tensor, ...]


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
        """Run a batch through the layer, and take in what its groups see.

        Args:
            layer: The layer.
            hidden: Its inputs.
            keywords: What else it is called with.
            batch: The batch.
            number: Which one of the calibration set.

        Returns:
            The layer's outputs.
        """
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


def check_attention(keywords: Sequence[dict[str, Any]]) -> None:
    """Refuse attention arguments that a file cannot hold.

    Raises:
        ReliabitError: An argument that is no tensor, no tuple of tensors and no plain value.
    """
    for arguments in keywords:
        for name, value in arguments.items():
            parts = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(part, Tensor | bool | int | float | str | None) for part in parts):
                raise ReliabitError(f"the decoder's attention is given {name}, a {type(value).__name__}, to calibrate")
