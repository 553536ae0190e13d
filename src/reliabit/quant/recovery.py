"""What of a packed weight can be trained: scales and zeros, while its codes stay what they are.

A layer trains *factors* of its scales and *shifts* of its zeros, `[out_features, groups]` each and in float32, beside
the values that it was quantized with: `scale * (1 + factor)` and `zero + shift`. One learning rate then suits layers
whose scales differ by orders of magnitude, and zeros, which are measured in codes.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from reliabit.files import sha256, staged_folder
from reliabit.quant.checkpoint_files import CHECKSUMS, weight_files, write_checksums
from reliabit.quant.convert import packed_modules
from reliabit.quant.grid import dequantize
from reliabit.quant.layers import QuantLinear
from reliabit.quant.mbq.statistics_key import folder_digest
from reliabit.quant.record import CONFIG, KEY, read_config

RECOVERED = "_recovered"
"""What the name of a method ends with, after `task=recover`."""


class PackedProduct(torch.autograd.Function):
    """`inputs @ dequantize(codes, scale, zero).T`, with gradients of inputs, scales and zeros.

    The weight is dequantized in each direction and kept in none, so that a pass takes the room of one layer's weight.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, scale: Tensor, zero: Tensor, codes: Tensor) -> Tensor:
        """Multiply, `[..., in_features]` to `[..., out_features]`."""
        ctx.save_for_backward(inputs, scale, zero, codes)
        return nn.functional.linear(inputs, dequantize(codes, scale, zero))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        """The weight's own gradient is summed over each group at once: it is that of one layer, and is not kept."""
        inputs, scale, zero, codes = ctx.saved_tensors
        [of_product] = gradients
        of_inputs = of_product @ dequantize(codes, scale, zero) if ctx.needs_input_grad[0] else None
        rows, groups = scale.shape
        of_weight = of_product.flatten(0, -2).T @ inputs.flatten(0, -2)
        grouped = of_weight.reshape(rows, groups, -1)
        sums = grouped.sum(-1)
        of_scale = (grouped * codes.reshape(rows, groups, -1)).sum(-1) - zero * sums
        return of_inputs, of_scale, -scale * sums, None


class TrainedLinear(nn.Module):
    """Stands for a `QuantLinear` while its scales are trained, and its zeros where they are floats.

    Attributes:
        layer: The layer, whose buffers stay as they are until `settle`.
        factor: Of the scales, `[out_features, groups]`.
        shift: Of the zeros, in codes; None for integer and symmetric zeros, which stay.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, layer: QuantLinear) -> None:
        """Take over a layer; its codes are unpacked to a byte each, a quarter of a float32 weight."""
        super().__init__()
        weight = layer.quantized_weight()
        self.layer = layer
        for name, values in (("codes", weight.codes), ("scale", weight.scale.float()), ("zero", weight.zero.float())):
            self.register_buffer(name, values, persistent=False)
        self.factor = nn.Parameter(torch.zeros_like(self.scale))
        self.shift = nn.Parameter(torch.zeros_like(self.zero)) if layer.layout.zero == "float" else None

    def trained_scale(self) -> Tensor:
        """The scales as they are now, float32."""
        return self.scale * (1 + self.factor)

    def trained_zero(self) -> Tensor:
        """The zeros as they are now, float32."""
        return self.zero if self.shift is None else self.zero + self.shift

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply in float32, `[..., in_features]` to `[..., out_features]`."""
        multiply: Any = PackedProduct.apply
        product: Tensor = multiply(inputs, self.trained_scale(), self.trained_zero(), self.codes)
        return product if self.layer.bias is None else product + self.layer.bias

    @torch.no_grad()
    def settle(self) -> QuantLinear:
        """Round what was trained to the type it is stored in, and give the layer back with it."""
        layer = self.layer
        layer.weight_scale = self.trained_scale().to(layer.weight_scale.dtype)
        if self.shift is not None and layer.weight_zero is not None:
            layer.weight_zero = self.trained_zero().to(layer.weight_zero.dtype)
        # What was dequantized or repacked of the old scales goes.
        layer.hold(layer.quantized_weight())
        return layer


def train_scales(model: nn.Module, chosen: Callable[[str], bool]) -> list[str]:
    """Put `TrainedLinear` in the place of packed linear layers; gives their names.

    Args:
        model: A packed model in float32; changed in place.
        chosen: Whether the layer of a name is trained.

    Example:
        >>> from reliabit.quant.convert import quantize_model
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
        >>> _ = quantize_model(model, [{"components": ["lm_head"]}], bits=3)
        >>> train_scales(model, lambda name: True)
        ['lm_head']
        >>> [name for name, _ in model.named_parameters() if "lm_head.f" in name or "shift" in name]
        ['lm_head.factor', 'lm_head.shift']
    """
    found = [name for name, module in packed_modules(model).items() if isinstance(module, QuantLinear) and chosen(name)]
    for name in found:
        model.set_submodule(name, TrainedLinear(cast("QuantLinear", model.get_submodule(name))))
    return found


def settle_scales(model: nn.Module) -> dict[str, Tensor]:
    """Undo `train_scales`; gives the scales and float zeros that were trained, as a checkpoint names them."""
    settled: dict[str, Tensor] = {}
    trained = {name: module for name, module in model.named_modules() if isinstance(module, TrainedLinear)}
    for name, module in trained.items():
        layer = module.settle()
        model.set_submodule(name, layer)
        settled[f"{name}.weight_scale"] = layer.weight_scale
        if module.shift is not None and layer.weight_zero is not None:
            settled[f"{name}.weight_zero"] = layer.weight_zero
    return settled


def write_recovered(
    source: Path, destination: Path, tensors: Mapping[str, Tensor], *, record: Mapping[str, Any], record_name: str
) -> None:
    """Write a packed checkpoint again with some of its tensors changed; all others stay as they are to the last bit.

    Args:
        source: A checkpoint of this format.
        destination: Where to; it appears whole or not at all, with the hashes of its files.
        tensors: By the names that the checkpoint has them by; each is rounded to the type that it is stored in.
        record: What was done.
        record_name: The file of it.

    Raises:
        KeyError: The checkpoint has no tensor of a name.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    files, left = weight_files(source), dict(tensors)
    weights = {file.name for file in files}
    with staged_folder(destination) as staging:
        for file in source.iterdir():
            if file.is_file() and file.name not in (*weights, CONFIG, CHECKSUMS):
                shutil.copy2(file, staging / file.name)
        hashes = {}
        for file in files:
            with safe_open(file, framework="pt") as shard:
                stored, metadata = {key: shard.get_tensor(key) for key in shard.keys()}, shard.metadata()  # noqa: SIM118
            changed = {key: left.pop(key).to(old.dtype).contiguous() for key, old in stored.items() if key in left}
            save_file(stored | changed, staging / file.name, metadata=metadata)
            hashes[file.name] = sha256(staging / file.name)
        if left:
            raise KeyError(f"{source} has no tensor {min(left)}")
        (staging / CONFIG).write_text(json.dumps(_renamed(read_config(source)), indent=2) + "\n", encoding="utf-8")
        (staging / record_name).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        write_checksums(staging, hashes, source=folder_digest(source))


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration that says of each method that its scales were trained: tables and the gate call it by that."""
    for scheme in config[KEY]["schemes"]:
        scheme["method"] = f"{str(scheme.get('method', 'quantized')).removesuffix(RECOVERED)}{RECOVERED}"
    return config
