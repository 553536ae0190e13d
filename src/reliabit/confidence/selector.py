"""The Selector: a network that reads a model's states and says how right its answer will be.

Its inputs are blocks that may be larger than memory, joined and cast a batch at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from reliabit.confidence.examples import AnswerEvidence
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.settings import SelectorSettings
from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray

MAXPROB = "maxprob"
"""The input that is one number, exp(log_prob); every other input is a feature block."""

CHUNK_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class SelectorInputs:
    """The inputs of N answers.

    Attributes:
        blocks: Each `[N, width]`, in the order in which a row joins them.
    """

    blocks: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a row that each block gives, in order."""
        return {name: block.shape[1] for name, block in self.blocks.items()}

    @property
    def width(self) -> int:
        """Numbers a row."""
        return sum(self.widths.values())

    def gather(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Join some rows, `[rows, width]`.

        Raises:
            ReliabitError: One of them holds a NaN or an infinity.
        """
        joined = np.concatenate([block[rows].astype(np.float32) for block in self.blocks.values()], axis=1)
        # One sum over all is cheaper than looking at each; only a sum that is not finite is looked into.
        if not np.isfinite(joined.sum(dtype=np.float64)):
            self._name_fault(np.arange(len(self))[rows])
        return joined

    def chunks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All rows in order, some at a time."""
        step = max(1, CHUNK_BYTES // (4 * self.width))
        for start in range(0, len(self), step):
            yield self.gather(slice(start, start + step))

    def held(self, *, memory: int) -> "SelectorInputs":
        """The same inputs, joined once and for all where that takes at most `memory` bytes."""
        if 4 * len(self) * self.width > memory:
            return self
        return SelectorInputs({"joined": np.concatenate(list(self.chunks()))})

    def _name_fault(self, rows: npt.NDArray[np.int64]) -> None:
        for name, block in self.blocks.items():
            finite = np.isfinite(block[rows]).all(axis=1)
            if not finite.all():
                raise ReliabitError(
                    f"the feature block {name} holds a NaN or an infinity in row {rows[np.argmin(finite)]}; "
                    "answer again with confidence.features.dtype=float32"
                )


def selector_inputs(evidence: AnswerEvidence, names: Sequence[str]) -> SelectorInputs:
    """The inputs of answers.

    Args:
        evidence: The answers.
        names: Feature blocks and "maxprob", in the order in which a row joins them.

    Raises:
        ReliabitError: A block is missing, or there are no answers.

    >>> features = {"first": np.zeros((2, 3), np.float16)}
    >>> answers = AnswerEvidence(columns={"log_prob": np.log([0.5, 1.0])}, features=features)
    >>> selector_inputs(answers, ["first", "maxprob"]).gather(slice(0, 2))
    array([[0. , 0. , 0. , 0.5],
           [0. , 0. , 0. , 1. ]], dtype=float32)
    """
    features = evidence.features or {}
    missing = [name for name in names if name not in (MAXPROB, *features)]
    if missing:
        raise ReliabitError(
            f"the Selector reads the feature blocks {', '.join(missing)}, which these answers lack; "
            "answer again with selector in confidence.estimators"
        )
    if not len(evidence):
        raise ReliabitError("the Selector got no answers; give at least one")
    return SelectorInputs({name: _maxprob(evidence) if name == MAXPROB else features[name] for name in names})


def standardizer(inputs: SelectorInputs) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each input over all rows, `[width]` each, in one pass in float64.

    Chunks are merged as Chan et al. 1979 do, so that an input that never changes has a deviation of exactly 0;
    it is given as 1, and standardizing leaves it at 0.
    """
    count, mean, squares = 0, np.zeros(inputs.width), np.zeros(inputs.width)
    for chunk in inputs.chunks():
        rows = chunk.astype(np.float64)
        chunk_mean = rows.mean(0)
        difference = chunk_mean - mean
        total = count + len(rows)
        mean = mean + difference * (len(rows) / total)
        squares += np.square(rows - chunk_mean).sum(0) + np.square(difference) * (count * len(rows) / total)
        count = total
    deviation = np.sqrt(squares / count)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _maxprob(evidence: AnswerEvidence) -> npt.NDArray[np.float32]:
    return np.exp(evidence.column("log_prob", confidence="selector"))[:, None].astype(np.float32)


class SelectorNetwork(nn.Module):
    """Linear, dropout and ReLU for each hidden layer, and a last linear layer to one logit."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, *, hidden: Sequence[int], dropout: float) -> None:
        """Build the layers at random; the standardizer leaves inputs as they are until it is set.

        Args:
            width: Inputs an answer.
            hidden: Units of each hidden layer.
            dropout: The probability of dropping a hidden unit in training.

        >>> network = SelectorNetwork(3 * 3584 + 1, hidden=(768, 768), dropout=0.1)
        >>> sum(parameter.numel() for parameter in network.parameters())
        8850433
        """
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in zip((width, *hidden), hidden, strict=False):
            layers += [nn.Linear(inner, outer), nn.Dropout(dropout), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else width, 1))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def set_standardizer(self, mean: FloatArray, deviation: FloatArray) -> None:
        """Bring inputs to these means and standard deviations, `[width]` each, from now on."""
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(deviation))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[N]` of inputs `[N, width]`, float32."""
        logits: Tensor = self.layers((inputs - self.mean) / self.scale)
        return logits.squeeze(-1)


@torch.no_grad()
def confidences(network: SelectorNetwork, inputs: SelectorInputs) -> FloatArray:
    """The network's confidences without dropout, `[N]` in [0, 1]; its mode is left as it was."""
    training = network.training
    network.eval()
    logits = [network(torch.from_numpy(chunk).to(network.mean.device)).double().cpu() for chunk in inputs.chunks()]
    network.train(training)
    # In float32, the sigmoid of 17 is 1, and sure answers would tie.
    return torch.cat(logits).sigmoid().numpy()


@dataclass(frozen=True, eq=False)
class TrainedSelector:
    """A Selector that can be asked, about any model whose states have the widths it was trained with.

    Attributes:
        network: The network, in evaluation mode.
        settings: How it was built and trained.
        widths: Numbers that each input gives, in order.
        seed: What its weights, batches and dropout were drawn with.
        epoch: The pass, from 1, after which it was best.
        val_aurc: Its AURC on the validation examples after that pass.
        history: The AURC on the validation examples after every pass.
        fitted_on: The images that trained and chose it.
    """

    network: SelectorNetwork
    settings: SelectorSettings
    widths: Mapping[str, int]
    seed: int
    epoch: int
    val_aurc: float
    history: tuple[float, ...]
    fitted_on: FittedOn
    name: ClassVar[str] = "selector"
    extra_forwards: ClassVar[float] = 0.0

    def __call__(self, evidence: AnswerEvidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1].

        Raises:
            ReliabitError: A feature block is missing, is of another width, or holds a NaN or an infinity.
        """
        inputs = selector_inputs(evidence, self.settings.inputs)
        for name, width in inputs.widths.items():
            if width != self.widths[name]:
                raise ReliabitError(
                    f"the feature block {name} is {width} wide and the Selector was trained on {self.widths[name]}; "
                    "use a Selector that was trained on this model's features"
                )
        return np.asarray(confidences(self.network, inputs))
