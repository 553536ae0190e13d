"""Walking a decoder a layer at a time, wherever its weights lie."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.groups import Observed, check_layer, observing


@dataclass(frozen=True)
class LayerInputs:
    """What the first decoder layer is called with.

    Attributes:
        hidden: Embedded tokens, image features in their places, `[sequences, tokens, width]`.
        keywords: Positions, masks and whatever else every layer is given.
    """

    hidden: Tensor
    keywords: dict[str, Any]


class Decoder(Protocol):
    """The decoder of a model as a sequence of layers.

    Attributes:
        path: The dotted path of its layers.
        depth: Their number.
    """

    path: str
    depth: int

    def inputs(self, batch: CalibrationBatch) -> LayerInputs:
        """What the model's own forward pass gives the first layer, its real positions included."""
        ...

    def layer(self, index: int) -> AbstractContextManager[nn.Module]:
        """A layer, with its weights for the length of the block."""
        ...

    def logits(self) -> AbstractContextManager["nn.Module"]:
        """What turns the last layer's outputs into logits, with its weights for the length of the block."""
        ...


class Head(nn.Module):
    """The final norm and the output embeddings."""

    def __init__(self, norm: nn.Module, output: nn.Module) -> None:
        """Put the two in a row."""
        super().__init__()
        self.norm, self.output = norm, output

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits, `[..., width]` to `[..., vocabulary]`."""
        logits: Tensor = self.output(self.norm(hidden))
        return logits


class ResidentDecoder:
    """The decoder of a model that is in memory."""

    def __init__(self, model: nn.Module, path: str) -> None:
        """Find the decoder layers at a dotted path; they must be built like Llama's."""
        self.model, self.path = model, path
        self.layers, self.norm = find_layers(model, path)
        self.depth = len(self.layers)
        for index, layer in enumerate(self.layers):
            check_layer(layer, name=f"{path}.{index}")

    def inputs(self, batch: CalibrationBatch) -> LayerInputs:
        return first_layer_inputs(self.model, self.layers[0], batch)

    def layer(self, index: int) -> AbstractContextManager[nn.Module]:
        return nullcontext(self.layers[index])

    def logits(self) -> AbstractContextManager[nn.Module]:
        return nullcontext(Head(self.norm, output_embeddings(self.model)))


def find_layers(model: nn.Module, path: str) -> tuple[nn.ModuleList, nn.Module]:
    """The decoder layers of a model and the norm after them."""
    parent, _, _ = path.rpartition(".")
    try:
        layers, norm = model.get_submodule(path), model.get_submodule(f"{parent}.norm" if parent else "norm")
    except AttributeError as error:
        raise ReliabitError(f"the model has no decoder layers at {path!r}: {error}") from error
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ReliabitError(f"{path} of the model is no list of decoder layers")
    kinds = getattr(getattr(model.get_submodule(parent), "config", None), "layer_types", None) or ()
    if len(set(kinds)) > 1:
        raise ReliabitError(f"{path} mixes {sorted(set(kinds))}; calibration gives all layers the first one's mask")
    return layers, norm


def output_embeddings(model: nn.Module) -> nn.Module:
    """The module that turns hidden states into logits."""
    getter = getattr(model, "get_output_embeddings", None)
    module = getter() if getter is not None else None
    if not isinstance(module, nn.Module):
        raise ReliabitError("the model has no output embeddings, so its answers cannot be scored")
    return module


class _ReachedError(Exception):
    """The first decoder layer was called."""


@torch.no_grad()
def first_layer_inputs(model: nn.Module, first: nn.Module, batch: CalibrationBatch) -> LayerInputs:
    """Run a model up to its first decoder layer.

    Its own forward pass decides on positions and masks: three-axis rotary positions depend on where the images are.
    """
    captured: list[LayerInputs] = []

    def stop(_: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        captured.append(LayerInputs(positional[0], dict(keywords)))
        raise _ReachedError

    hook = first.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**batch.inputs, use_cache=False)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    return captured[0]


def run_layer(layer: nn.Module, hidden: Tensor, keywords: dict[str, Any]) -> Tensor:
    """One layer's output; transformers 5 returns the tensor itself, older layers a tuple that starts with it."""
    output = layer(hidden, **keywords)
    states: Tensor = output if isinstance(output, Tensor) else output[0]
    return states


@torch.no_grad()
def walk_observed(
    decoder: Decoder,
    batches: Sequence[CalibrationBatch],
    visit: Callable[[int, nn.Module, list[Observed]], None],
) -> None:
    """Show a visitor every layer with what its groups see in every batch, quantization left out."""
    if not batches:
        raise ReliabitError(
            "a faithful scale search needs the calibration batches themselves; set quant.scaling.search=fast"
        )
    inputs = [decoder.inputs(batch) for batch in batches]
    hidden = [found.hidden for found in inputs]
    for index in range(decoder.depth):
        seen: list[Observed] = []
        with decoder.layer(index) as layer:
            for number, found in enumerate(inputs):
                with observing(layer) as observed:
                    hidden[number] = run_layer(layer, hidden[number], found.keywords)
                seen.append(observed)
            visit(index, layer, seen)
