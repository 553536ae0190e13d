"""The inputs of each decoder layer as what is quantized before it makes them, for methods that learn from them.

The calibration set goes through the decoder once, a layer at a time, and stops in each layer where linear layers share
their inputs: these are looked at, the linear layers are quantized, and only then what they give goes on. So each learns
from what it will really be given, and nothing is computed twice. Memory holds a layer, the moments of one group of its
linear layers, and the calibration set's states at one place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.input_moments import InputMoments, InputNeeds, MomentSums
from reliabit.quant.layers import dequantized_once
from reliabit.quant.mbq.calibration_set import VISION, CalibrationBatch, check_batches
from reliabit.quant.mbq.calibration_statistics import Statistics
from reliabit.quant.mbq.decoder import LayerInputs, run_layer
from reliabit.quant.mbq.groups import GROUPS, ScalingGroup
from reliabit.quant.mbq.sensitivity import PLACES, check_finite
from reliabit.quant.methods import QUANTIZERS, read_options
from reliabit.quant.plan import Plan, Scheme

_LINEARS = tuple(path for group in GROUPS for path in group.linears)

Quantize = Callable[[str, InputMoments | None], None]
"""Quantizes a linear layer, given by its name, and puts what it becomes in its place."""


@dataclass(frozen=True)
class InputCalibration:
    """What is sent through a model so that its quantizers learn from their inputs.

    Attributes:
        path: The dotted path of the decoder layers.
        batches: The calibration set.
        statistics: Of the unquantized model, where tokens are weighted.
        dtype: What a model that is streamed computes in; one in memory computes in its own type.
    """

    path: str
    batches: Sequence[CalibrationBatch]
    statistics: Statistics | None = None
    dtype: torch.dtype = torch.float32


def needs_of(scheme: Scheme, *, name: str = "quant") -> InputNeeds | None:
    """What the method of a scheme asks for of its layer's inputs; None where it does not look at them.

    >>> needs_of(Scheme("gptq")), needs_of(Scheme("rtn"))
    (InputNeeds(weighting='none', residual=False), None)
    """
    quantizer = QUANTIZERS[scheme.method]
    if not quantizer.needs_inputs:
        return None
    found: InputNeeds = quantizer(read_options(scheme.method, scheme.options, key=f"{name}.options")).input_needs()
    return found


def plan_needs(plan: Plan) -> set[InputNeeds]:
    """What the methods of a plan ask for of their layers' inputs."""
    return {needs for rule in plan.rules if (needs := needs_of(rule.scheme)) is not None}


def check_places(schemes: Mapping[str, Scheme], *, path: str) -> None:
    """Refuse a method that learns from its inputs where these are not looked at.

    Raises:
        ReliabitError: A module outside the decoder layers at `path`, or one that none of them shares its place with.

    >>> check_places({"text.layers.0.mlp.up_proj": Scheme("gptq"), "lm_head": Scheme("hqq")}, path="text.layers")
    """
    for name, scheme in schemes.items():
        if learns_inputs(scheme) and _place(name, path) not in _LINEARS:
            raise ReliabitError(
                f"{name}: method {scheme.method} learns from the inputs of its layer, which are looked at in the "
                f"decoder layers {path} alone; give it a rule with another method, such as hqq_plus"
            )


def check_inputs(schemes: Mapping[str, Scheme], inputs: InputCalibration | None) -> None:
    """Refuse methods that learn from inputs where there are none, or not all that they ask for.

    Raises:
        ReliabitError: The module, and what is missing.
    """
    asking = [name for name, scheme in schemes.items() if learns_inputs(scheme)]
    if not asking:
        return
    if inputs is None:
        raise ReliabitError(
            f"{asking[0]}: method {schemes[asking[0]].method} learns from the inputs of its layer, and there are no "
            "calibration images; give quantize_model or quantize_checkpoint its inputs"
        )
    check_batches(inputs.batches)
    check_places(schemes, path=inputs.path)
    for name in asking:
        needs = needs_of(schemes[name], name=name)
        if needs is not None and needs.statistics and inputs.statistics is None:
            raise ReliabitError(
                f"{name}: {needs.weighting} weights are of calibration statistics, and there are none; give them too, "
                "or set quant.options.weighting=none"
            )


def learns_inputs(scheme: Scheme) -> bool:
    """Whether the method of a scheme learns from the inputs of its layers.

    >>> learns_inputs(Scheme("gptq")), learns_inputs(Scheme("hqq"))
    (True, False)
    """
    return bool(QUANTIZERS[scheme.method].needs_inputs)


def _place(name: str, path: str) -> str:
    """The path of a module within its decoder layer; empty where it lies in none."""
    if not name.startswith(f"{path}."):
        return ""
    number, _, place = name.removeprefix(f"{path}.").partition(".")
    return place if number.isdigit() else ""


class QuantizedPrefix:
    """The calibration set on its way through a decoder that is quantized as it goes.

    Attributes:
        last: The last layer with a linear layer whose method asks for its inputs; what comes after need not be walked.
    """

    def __init__(
        self, schemes: Mapping[str, Scheme], inputs: InputCalibration, *, first: Sequence[LayerInputs]
    ) -> None:
        """Begin before the first layer; `first` is what it is called with, for each batch."""
        self._inputs, self._planned = inputs, schemes.keys()
        self._needs = {
            name: needs for name, scheme in schemes.items() if (needs := needs_of(scheme, name=name)) is not None
        }
        self.last = max(int(name.removeprefix(f"{inputs.path}.").partition(".")[0]) for name in self._needs)
        keywords = [found.keywords for found in first]
        self._stream = _Stream([found.hidden for found in first], keywords)
        self._exact: _Stream | None = None
        if any(needs.residual for needs in self._needs.values()):
            self._exact = _Stream(list(self._stream.hidden), keywords)
        self._checked = False

    @torch.no_grad()
    def quantize_layer(self, layer: nn.Module, index: int, quantize: Quantize) -> None:
        """Go through a layer, and have each linear layer that the plan names quantized when its inputs are known."""
        self._check_built(layer)
        for stream in self._streams():
            stream.enter(layer, GROUPS[0])
        for group, following in zip(GROUPS, (*GROUPS[1:], None), strict=True):
            moments = self._moments(group, index)
            if self._exact is not None:
                self._exact.enter(layer, following)
            for name in self._names(group, index):
                quantize(name, moments[self._needs[name]] if name in self._needs else None)
            self._stream.enter(layer, following)
        self._check_finite(index)

    @torch.no_grad()
    def pass_exact(self, layer: nn.Module) -> None:
        """Take what stands for the unquantized model through a layer that is not quantized again."""
        if self._exact is not None:
            self._exact.go_through(layer)

    @torch.no_grad()
    def pass_quantized(self, layer: nn.Module) -> None:
        """Take the calibration set through a layer that was quantized before."""
        self._stream.go_through(layer)

    def _streams(self) -> "list[_Stream]":
        return [self._stream] if self._exact is None else [self._stream, self._exact]

    def _names(self, group: ScalingGroup, index: int) -> list[str]:
        """The linear layers of a group that the plan names."""
        names = [f"{self._inputs.path}.{index}.{path}" for path in group.linears]
        return [name for name in names if name in self._planned]

    def _moments(self, group: ScalingGroup, index: int) -> dict[InputNeeds, InputMoments]:
        """The moments of a group's inputs, for each kind that its linear layers ask for."""
        found = {}
        for needs in {self._needs[name] for name in self._names(group, index) if name in self._needs}:
            sums = MomentSums(needs)
            for number, batch in enumerate(self._inputs.batches):
                weights = self._weights(needs, group, index, number)
                exact = None if self._exact is None else self._exact.state[number][batch.attended]
                sums.add(self._stream.state[number][batch.attended], exact, weights)
            found[needs] = sums.moments()
        return found

    def _weights(self, needs: InputNeeds, group: ScalingGroup, index: int, number: int) -> Tensor | None:
        """What the tokens of a batch count at a group's inputs."""
        statistics = self._inputs.statistics
        if needs.weighting == "none" or statistics is None:
            return None
        place, tokens = PLACES.index(group.sensitivity), statistics.tokens.of_batch(number)
        kinds = statistics.tokens.kinds
        if needs.weighting == "modality":
            weights = torch.ones(len(kinds[tokens]))
            weights[kinds[tokens] == VISION] = float(statistics.ratios[index, place])
            return weights
        return token_weights(statistics.gradients[index, place])[tokens]

    def _check_built(self, layer: nn.Module) -> None:
        """Refuse layers that do not compute, between the places where inputs are looked at, what Llama's do."""
        if self._checked:
            return
        alone = _Stream(self._stream.hidden[:1], self._stream.keywords[:1])
        expected = run_layer(layer, alone.hidden[0], alone.keywords[0])
        alone.go_through(layer)
        attended = self._inputs.batches[0].attended
        if not torch.allclose(alone.hidden[0][attended].float(), expected[attended].float(), rtol=1e-2, atol=1e-3):
            raise ReliabitError(
                f"the decoder layers {self._inputs.path} compute something else than Llama's; inputs are looked at "
                "only in layers built like those"
            )
        self._checked = True

    def _check_finite(self, index: int) -> None:
        for number, batch in enumerate(self._inputs.batches):
            states = self._stream.hidden[number]
            what = f"outputs of {self._inputs.path}.{index}"
            check_finite(states[batch.attended], what, dtype=states.dtype, batch=number)


_FLOOR = 0.1
"""What a token counts at least, relative to the mean: in the last layers few tokens have gradients at all, and moments
of fewer tokens than a layer has inputs say nothing of most directions."""


def token_weights(gradients: Tensor) -> Tensor:
    """What each token counts, from the mean magnitudes of their gradients: relative to the mean, and not below a tenth.

    >>> token_weights(torch.tensor([0.0, 1.0, 3.0, 0.0]))
    tensor([0.1000, 1.0000, 3.0000, 0.1000])
    """
    mean = gradients.mean().clamp_min(torch.finfo(gradients.dtype).tiny)
    return (gradients / mean).clamp_min(_FLOOR)


class _Stream:
    """Hidden states of a calibration set in a decoder: before a layer, or at the inputs of one of its groups."""

    def __init__(self, hidden: Sequence[Tensor], keywords: Sequence[dict[str, Any]]) -> None:
        self.hidden, self.keywords = list(hidden), keywords
        self.state: list[Tensor] = list(hidden)

    def go_through(self, layer: nn.Module) -> None:
        for group in (*GROUPS, None):
            self.enter(layer, group)

    def enter(self, layer: nn.Module, group: ScalingGroup | None) -> None:
        """Go from one group's inputs to the next one's; None is the end of the layer."""
        name = "end" if group is None else group.name
        with dequantized_once(layer, dtype=self.hidden[0].dtype), _without(layer, name):
            for number in range(len(self.hidden)):
                self._step(layer, name, number)

    def _step(self, layer: nn.Module, name: str, number: int) -> None:
        run = layer.get_submodule
        if name == "qkv":
            self.state[number] = run("input_layernorm")(self.hidden[number])
        elif name == "output":
            found = run("self_attn")(hidden_states=self.state[number], **self.keywords[number])
            self.state[number] = found if isinstance(found, Tensor) else found[0]
        elif name == "gate_up":
            self.hidden[number] = self.hidden[number] + run("self_attn.o_proj")(self.state[number])
            self.state[number] = run("post_attention_layernorm")(self.hidden[number])
        elif name == "down":
            self.state[number] = run("mlp")(self.state[number])
        else:
            self.hidden[number] = self.hidden[number] + run("mlp.down_proj")(self.state[number])
            self.state[number] = self.hidden[number]


@contextmanager
def _without(layer: nn.Module, name: str) -> Iterator[None]:
    """A layer whose attention, or MLP, stops before its last linear layer, for the length of a block."""
    path = {"output": "self_attn.o_proj", "down": "mlp.down_proj"}.get(name)
    if path is None:
        yield
        return
    last = layer.get_submodule(path)
    layer.set_submodule(path, nn.Identity())
    try:
        yield
    finally:
        layer.set_submodule(path, last)
