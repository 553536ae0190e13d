"""The Selector: a network that reads a model's states and says how right its answer will be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reliabit.confidence.examples import Evidence
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.selector_inputs import SelectorInputs, selector_inputs
from reliabit.confidence.selector_settings import SelectorSettings
from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray


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

    def __call__(self, evidence: Evidence) -> FloatArray:
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
