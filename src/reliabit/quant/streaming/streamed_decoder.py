"""The decoder of a checkpoint on disk: weights are in memory only while they are used."""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.quant.checkpoint_io import compute_buffers, skeleton
from reliabit.quant.mbq.calibration_set import CalibrationBatch
from reliabit.quant.mbq.decoder import Head, LayerInputs, find_layers, first_layer_inputs, output_embeddings
from reliabit.quant.mbq.groups import check_layer
from reliabit.quant.streaming.tensors import CheckpointTensors, Reader

_LARGE_BLOCK = 2**16
_M_MMAP_THRESHOLD = -3


class StreamedDecoder:
    """A decoder whose layers are read from a checkpoint folder one at a time.

    Attributes:
        model: The model's skeleton; its weights take no memory unless they are in use.
        tensors: The checkpoint's tensors.
        path: The dotted path of the decoder layers.
        depth: Their number.
        dtype: The type that weights are read as.
    """

    def __init__(self, folder: Path, path: str, *, dtype: torch.dtype) -> None:
        """Build the skeleton of a checkpoint folder and look at its files; weights are read later, as `dtype`."""
        map_large_blocks()
        self.model = skeleton(folder, dtype).eval().requires_grad_(False)
        self.tensors = CheckpointTensors(folder, self.model)
        compute_buffers(self.model)
        self.path, self.dtype = path, dtype
        self.layers, _ = find_layers(self.model, path)
        self.depth = len(self.layers)
        for index, layer in enumerate(self.layers):
            check_layer(layer, name=f"{path}.{index}")
        inside = {module for layer in self.layers for module in layer.modules()}
        self._outside = [name for name, module in self.model.named_modules() if module not in inside]
        for name in self._outside:
            _put_placeholders(self.model.get_submodule(name))

    def inputs(self, batch: CalibrationBatch) -> LayerInputs:
        with self._loading_when_called(self._outside, Reader(self.tensors)):
            return first_layer_inputs(self.model, self.layers[0], batch)

    def layer(self, index: int) -> AbstractContextManager[nn.Module]:
        return self.loaded(f"{self.path}.{index}")

    @contextmanager
    def logits(self) -> Iterator[nn.Module]:
        names = {id(module): name for name, module in self.model.named_modules()}
        parent, _, _ = self.path.rpartition(".")
        output = names[id(output_embeddings(self.model))]
        with self.loaded(f"{parent}.norm") as norm, self.loaded(output) as found:
            yield Head(norm, found)

    @contextmanager
    def loaded(self, name: str) -> Iterator[nn.Module]:
        """A module with its weights, for the length of the block; what it was turned into stays, without memory."""
        module = self.model.get_submodule(name)
        prefix = f"{name}." if name else ""
        read = self.tensors.read([f"{prefix}{own}" for own, _ in module.named_parameters()])
        for own, tensor in read.items():
            _set(self.model, own, tensor.to(self.dtype))
        try:
            yield module
        finally:
            module = self.model.get_submodule(name)
            # Frequencies and the like are computed once, and no checkpoint holds them.
            kept = {own: buffer for own, buffer in module.named_buffers() if own not in module.state_dict()}
            module.to("meta")
            for own, buffer in kept.items():
                owner, _, leaf = own.rpartition(".")
                module.get_submodule(owner)._buffers[leaf] = buffer

    @contextmanager
    def _loading_when_called(self, names: Sequence[str], reader: Reader) -> Iterator[None]:
        """Give each module its own weights for the length of its forward pass.

        Of embeddings only the rows that are looked up are read.
        """
        hooks = []
        for name in names:
            module = self.model.get_submodule(name)
            own = [leaf for leaf, _ in module.named_parameters(recurse=False)]
            if own:
                hooks += self._hooks(module, name, own, reader)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hooks(self, module: nn.Module, name: str, own: list[str], reader: Reader) -> list[Any]:
        empty = {leaf: module._parameters[leaf] for leaf in own}
        lookup = isinstance(module, nn.Embedding)

        def load(called: nn.Module, _: tuple[Any, ...]) -> None:
            for leaf in own:
                tensor = reader.view(f"{name}.{leaf}" if name else leaf)
                value = tensor if lookup else tensor.to(self.dtype, copy=True)
                called._parameters[leaf] = nn.Parameter(value, requires_grad=False)

        def unload(called: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
            called._parameters.update(empty)
            return output.to(self.dtype) if lookup and isinstance(output, Tensor) else None

        return [module.register_forward_pre_hook(load), module.register_forward_hook(unload)]


def _put_placeholders(module: nn.Module) -> None:
    """Make weights that take no memory look as if they were where inputs are: models put inputs where weights are."""
    for name, parameter in module.named_parameters(recurse=False):
        placeholder = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
        module._parameters[name] = nn.Parameter(placeholder, requires_grad=False)


def _set(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner)._parameters[leaf] = nn.Parameter(value, requires_grad=False)


def map_large_blocks() -> None:
    """Let the C library give every larger block a mapping of its own, for the rest of the process.

    By default glibc raises the size from which it does so each time such a block is freed; tensors of some megabytes
    then lie scattered in a heap that does not shrink. Walking through layers of 12 MiB kept another 15 MiB a layer;
    with this, nothing. Elsewhere than on glibc it does nothing.

    Example:
        >>> map_large_blocks()
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
