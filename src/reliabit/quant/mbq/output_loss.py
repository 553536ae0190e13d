"""The loss of a candidate: errors of the compared module's outputs in its calls, each token weighted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.calibration_statistics import LayerStatistics, Statistics
from reliabit.quant.mbq.groups import Observed, ScalingGroup
from reliabit.quant.mbq.losses import GramLoss, Weights, modality_weights, token_errors, token_weights
from reliabit.quant.mbq.sensitivity import PLACES
from reliabit.quant.settings import ScalingConfig

_PILOT_TOKENS = 8
_PILOT_CALLS = 4
"""One token in so many, or one call in so many, makes the pilot that candidates are filtered by.

A filter from second moments alone (channels taken for uncorrelated) let the best candidate slip at 2 to 4 bits so often
that the loss of both reference models ended 0.5 to 1.5 % above the faithful search's; judging by a part of the
calls properly costs about the same.
"""


@dataclass(frozen=True)
class Call:
    """One call of the compared module.

    Attributes:
        hidden: Its inputs, `[..., tokens, channels]`.
        keywords: Its other arguments.
        weights: What the error of each token counts, `[..., tokens]`.
    """

    hidden: Tensor
    keywords: dict[str, Any]
    weights: Tensor


@dataclass(frozen=True)
class OutputLoss:
    """The calls that candidates of one group are judged by, and their unquantized outputs.

    Attributes:
        module: The compared module.
        weights: Its own weights but those that candidates replace, in the type of the calls: statistics may be of
            another type than the model.
        calls: The calls.
        exact: Its outputs.
        loss: `mae` or `mse`.
    """

    module: nn.Module
    weights: Weights
    calls: Sequence[Call]
    exact: Sequence[Tensor]
    loss: str

    @classmethod
    def of(cls, module: nn.Module, calls: Sequence[Call], *, loss: str, replaced: Collection[str]) -> "OutputLoss":
        """Run the unquantized module once."""
        dtype = calls[0].hidden.dtype
        weights = {name: parameter.detach().to(dtype) for name, parameter in module.named_parameters()}
        exact = [_output(module, weights, call) for call in calls]
        kept = {name: weight for name, weight in weights.items() if name not in replaced}
        return cls(module, kept, calls, exact, loss)

    def pilot(self) -> "OutputLoss":
        """A loss over a part of the calls, to find out which candidates are worth all of them.

        That is every eighth token where tokens can be looked at one by one, otherwise the first fourth of the calls.
        """
        if len(self.calls) > 1:
            count = -(-len(self.calls) // _PILOT_CALLS)
            return replace(self, calls=self.calls[:count], exact=self.exact[:count])
        (call,), (exact,) = self.calls, self.exact
        if call.hidden.ndim > 2:
            return self
        part = Call(call.hidden[::_PILOT_TOKENS], call.keywords, call.weights[::_PILOT_TOKENS])
        return replace(self, calls=[part], exact=[exact[::_PILOT_TOKENS]])

    def judge(self, weights: Weights) -> float:
        """The loss of the module with other weights, given by name within the module."""
        total, typed = 0.0, {name: weight.to(self.calls[0].hidden.dtype) for name, weight in weights.items()}
        for call, exact in zip(self.calls, self.exact, strict=True):
            errors = token_errors(_output(self.module, self.weights | typed, call) - exact, self.loss)
            total += float((errors * call.weights).sum(dtype=torch.float64))
        return total


@torch.no_grad()
def _output(module: nn.Module, weights: Weights, call: Call) -> Tensor:
    output = torch.func.functional_call(module, weights, (call.hidden,), call.keywords)
    states: Tensor = output if isinstance(output, Tensor) else output[0]
    return states


@dataclass(frozen=True)
class Weighing:
    """Weighs tokens of a calibration set in one layer."""

    statistics: Statistics
    settings: ScalingConfig
    layer: int

    def ratio(self, group: ScalingGroup) -> float:
        """The sensitivity ratio at the group's output."""
        return float(self.statistics.ratios[self.layer, PLACES.index(group.sensitivity)])

    def shares(self, group: ScalingGroup) -> Tensor:
        """What the mean error of each modality counts, `[modalities]`."""
        return modality_weights(self.statistics.tokens.counts, ratio=self.ratio(group), settings=self.settings)

    def weights(self, group: ScalingGroup, chosen: Tensor) -> Tensor:
        """What the errors of some tokens, given by number, count."""
        tokens = self.statistics.tokens
        gradients = self.statistics.gradients[self.layer, PLACES.index(group.sensitivity)]
        return token_weights(
            tokens.kinds[chosen],
            tokens.counts,
            ratio=self.ratio(group),
            settings=self.settings,
            gradients=gradients[chosen] / gradients.mean().clamp_min(torch.finfo(gradients.dtype).tiny),
        )


def drawn_loss(
    layer: nn.Module, group: ScalingGroup, found: LayerStatistics, weighing: Weighing
) -> "OutputLoss | GramLoss":
    """The loss that statistics allow to compute.

    That is Gram matrices, for linear layers, if they were kept; otherwise drawn tokens, or whole batches where a
    token's output depends on its neighbours.
    """
    statistics, module = weighing.statistics, layer.get_submodule(group.compared)
    device = layer.get_submodule(group.linears[0]).get_parameter("weight").device
    gram = found.groups[group.name].gram
    if gram is not None and group.linears == (group.compared,) and weighing.settings.modality_weight != "token":
        weight = module.get_parameter("weight").detach()
        return GramLoss(weight, gram, weighing.shares(group), weighing.settings.loss)
    if group.compared != "self_attn":
        weights = weighing.weights(group, statistics.tokens.drawn)
        counts = weights > 0
        call = Call(found.groups[group.name].sample[counts].to(device), {}, weights[counts].to(device))
        return OutputLoss.of(module, [call], loss=weighing.settings.loss, replaced=group.parameters)
    numbers = torch.arange(len(statistics.tokens.kinds))
    chosen = torch.cat([numbers[context.tokens] for context in statistics.contexts])
    lengths = [context.tokens.stop - context.tokens.start for context in statistics.contexts]
    parts = torch.split(weighing.weights(group, chosen), lengths)
    calls = [
        Call(hidden.to(device), _moved(context.keywords, device), _spread(part, context.attended).to(device))
        for hidden, context, part in zip(found.contexts, statistics.contexts, parts, strict=True)
    ]
    return OutputLoss.of(module, calls, loss=weighing.settings.loss, replaced=group.parameters)


def full_loss(
    layer: nn.Module,
    group: ScalingGroup,
    seen: Sequence[Observed],
    batches: Sequence[CalibrationBatch],
    weighing: Weighing,
) -> OutputLoss:
    """The loss over every token of the calibration set."""
    statistics = weighing.statistics
    weights = weighing.weights(group, torch.arange(len(statistics.tokens.kinds)))
    calls = []
    for number, (observed, batch) in enumerate(zip(seen, batches, strict=True)):
        part = _spread(weights[statistics.tokens.of_batch(number)], batch.attended.cpu())
        keywords = observed.attention if group.compared == "self_attn" else {}
        hidden = observed.inputs[group.name]
        calls.append(Call(hidden, keywords, part.to(hidden.device)))
    return OutputLoss.of(
        layer.get_submodule(group.compared), calls, loss=weighing.settings.loss, replaced=group.parameters
    )


def _moved(keywords: dict[str, Any], device: torch.device) -> dict[str, Any]:
    def move(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(move(part) for part in value)
        return value.to(device) if isinstance(value, Tensor) else value

    return {name: move(value) for name, value in keywords.items()}


def _spread(weights: Tensor, attended: Tensor) -> Tensor:
    """Weights of tokens at their positions, 0 for padding."""
    spread = torch.zeros(attended.shape)
    spread[attended] = weights
    return spread
