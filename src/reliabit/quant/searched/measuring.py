"""What quantizing a part of a model costs, in the answers that it gives to a calibration set.

The unquantized states before each layer are kept, so that a candidate in a layer costs the layers after it alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.calibration_set import CalibrationBatch, check_batches
from reliabit.quant.mbq.decoder import Head, LayerInputs, ResidentDecoder, output_embeddings, run_layer
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Scheme
from reliabit.quant.quantizer import quantize_weight
from reliabit.quant.searched.units import Assignment, Unit


@dataclass(frozen=True)
class Cost:
    """What a quantized model costs at answer tokens, teacher-forced; means over these, in nats.

    Attributes:
        kl: Divergence of its next-token distribution from the unquantized model's.
        nll: Negative log-likelihood of the reference answers.
    """

    kl: float
    nll: float


class CostMeasurement:
    """A model of which units are quantized one at a time, from some assignment, and asked what it answers.

    Weights stand for their codes dequantized, which is what packed layers multiply by in float32. Each is quantized
    once a width; codes are kept packed.

    Attributes:
        assignment: What candidates differ from; at first nothing is quantized.
        based: What that costs.
    """

    assignment: Assignment
    based: Cost

    def __init__(
        self,
        model: nn.Module,
        layers: str,
        batches: Sequence[CalibrationBatch],
        *,
        units: Sequence[Unit],
        scheme: Scheme,
    ) -> None:
        """Keep what the unquantized model answers.

        Args:
            model: The unquantized model, in evaluation mode; its weights are exchanged while costs are measured.
            layers: The dotted path of its decoder layers.
            batches: The calibration set.
            units: What shares a width.
            scheme: How weights are quantized, but for width and group.

        Raises:
            ReliabitError: The calibration set is empty, or has no image or answer tokens.
        """
        check_batches(batches)
        self._model, self._batches, self._scheme = model, batches, scheme
        self._decoder = ResidentDecoder(model, layers)
        self._units = {unit.name: unit for unit in units}
        self._original = {name: self._parameter(name) for unit in units for name in unit.modules}
        self._packed: dict[tuple[str, int], PackedWeight] = {}
        self._inputs: list[LayerInputs] = []
        self._states: list[list[Tensor]] = []
        self._targets = torch.cat([batch.targets[batch.answer] for batch in batches])
        self._exact = torch.empty(0)
        self.base(dict.fromkeys(self._units))

    @torch.no_grad()
    def base(self, assignment: Assignment) -> None:
        """Take an assignment for the one that candidates differ from."""
        for name, width in assignment.items():
            self._set(name, width)
        self._inputs = [self._decoder.inputs(batch) for batch in self._batches]
        self._states = [[found.hidden for found in self._inputs]]
        for index in range(self._decoder.depth):
            self._states.append(self._run(index, self._states[-1]))
        found = self._log_probabilities(self._states[-1])
        # The first base is the model as it is.
        self._exact = self._exact if len(self._exact) else found
        self.assignment, self.based = dict(assignment), self._cost(found, "the plan")

    @torch.no_grad()
    def cost(self, name: str, width: int | None) -> Cost:
        """What one unit at another width costs, all others as the base has them."""
        unit = self._units[name]
        self._set(name, width)
        try:
            if unit.layer is not None:
                first, states = unit.layer, self._states[unit.layer]
            elif unit.component == "lm_head":
                first, states = self._decoder.depth, self._states[-1]
            else:
                first, states = 0, [self._decoder.inputs(batch).hidden for batch in self._batches]
            for index in range(first, self._decoder.depth):
                states = self._run(index, states)
            return self._cost(self._log_probabilities(states), f"{name} at {width} bits")
        finally:
            self._set(name, self.assignment[name])

    def _run(self, index: int, states: Sequence[Tensor]) -> list[Tensor]:
        with self._decoder.layer(index) as layer:
            return [
                run_layer(layer, hidden, found.keywords) for hidden, found in zip(states, self._inputs, strict=True)
            ]

    def _log_probabilities(self, states: Sequence[Tensor]) -> Tensor:
        """Of all next tokens at the answer positions, float32 `[positions, vocabulary]`."""
        head = Head(self._decoder.norm, output_embeddings(self._model))
        answers = [hidden[batch.answer] for hidden, batch in zip(states, self._batches, strict=True)]
        found: Tensor = head(torch.cat(answers)).float().log_softmax(-1)
        return found

    def _cost(self, found: Tensor, what: str) -> Cost:
        divergence = kl_div(found, self._exact, log_target=True, reduction="none").sum(-1).mean()
        likelihood = cross_entropy(found, self._targets)
        if not (divergence.isfinite() and likelihood.isfinite()):
            raise ReliabitError(f"what {what} costs is not finite; set model.dtype=float32, or leave out that width")
        return Cost(kl=float(divergence), nll=float(likelihood))

    def _parameter(self, name: str) -> nn.Parameter:
        return self._model.get_submodule(name).get_parameter("weight")

    def _set(self, unit: str, width: int | None) -> None:
        """Give the modules of a unit the weights of a width; a matrix that another one shares stays as it is there."""
        for name in self._units[unit].modules:
            weight = self._original[name]
            if width is not None:
                values = self._quantized(name, self._units[unit].scheme(self._scheme, width)).dequantize(weight.dtype)
                weight = nn.Parameter(values, requires_grad=False)
            self._model.get_submodule(name).weight = weight

    def _quantized(self, name: str, scheme: Scheme) -> PackedWeight:
        place = name, scheme.bits
        if place not in self._packed:
            quantized = quantize_weight(self._original[name].detach(), **scheme.arguments(), name=name)
            rows, columns = quantized.codes.shape
            self._packed[place] = PackedWeight(rows, columns, quantized.layout, device="meta")
            self._packed[place].hold(quantized)
        return self._packed[place]


def as_records(costs: Mapping[int | None, Cost]) -> dict[str, dict[str, float]]:
    """Costs by width as files have them.

    >>> as_records({4: Cost(kl=0.5, nll=1.0), None: Cost(kl=0.0, nll=0.9)})
    {'4': {'kl': 0.5, 'nll': 1.0}, 'as_it_is': {'kl': 0.0, 'nll': 0.9}}
    """
    return {"as_it_is" if width is None else str(width): vars(cost) for width, cost in costs.items()}


def from_records(records: Mapping[str, Mapping[str, float]]) -> dict[int | None, Cost]:
    """Undo `as_records`."""
    return {None if width == "as_it_is" else int(width): Cost(**cost) for width, cost in records.items()}
