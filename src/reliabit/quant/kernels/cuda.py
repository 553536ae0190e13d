"""Kernels for NVIDIA GPUs from the extras `humming-kernels` and `gemlite`.

They are written after the interfaces of humming-kernels 0.1.19 and gemlite 0.6.0 and have not been run on a GPU yet:
the self-test of `dispatch` decides on the spot, and a layer that no kernel serves is dequantized and multiplied, which
is always right. Both libraries only import where CUDA is, so they are imported where they are used.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from reliabit.quant.kernels import Kernel
from reliabit.quant.packed import PackedWeight

HALF_TYPES = (torch.bfloat16, torch.float16)
_GEMLITE_BITS = (1, 2, 4, 8)
_HUMMING_BITS = range(1, 9)
_HUMMING_WORD = 32


@dataclass(frozen=True)
class _ModuleKernel(Kernel):
    """A kernel that the library wraps as a module.

    Attributes:
        module: The library's layer, whose tensors are `tensors`.
    """

    module: nn.Module

    device_type: ClassVar[str] = "cuda"

    def multiply(self, inputs: Tensor) -> Tensor:
        product: Tensor = self.module(inputs)
        return product


class Humming(_ModuleKernel):
    """`humming-kernels`: 1 to 8 bits with symmetric, whole or float zeros, compiled when first used."""

    name: ClassVar[str] = "humming"

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        bits = weight.layout.bits
        dense = not weight.columns * bits % _HUMMING_WORD
        return _usable("humming") and dtype in HALF_TYPES and bits in _HUMMING_BITS and dense

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        from humming.layer import HummingLayer  # type: ignore[import-not-found, unused-ignore]
        from humming.ops import pack_weight  # type: ignore[import-not-found, unused-ignore]

        held, layout = weight.quantized_weight(), weight.layout
        has_zero = layout.zero != "symmetric"
        config: dict[str, Any] = {
            "dtype": f"uint{layout.bits}",
            "group_size": layout.group_size or 0,
            "has_zero_point": has_zero,
            "is_fp_zero_point": has_zero,
        }
        module = HummingLayer(weight.rows, weight.columns, weight_config=config, torch_dtype=dtype)
        module = module.to(held.codes.device)
        tensors = {
            "weight": pack_weight(held.codes.to(torch.int32), layout.bits),
            "weight_scale": held.scale.to(dtype),
        }
        if has_zero:
            tensors["zero_point"] = held.zero.to(dtype)
        module.load_from_tensors(tensors)
        module.transform()
        return cls(dtype, tuple(module.parameters()), module)


class GemLite(_ModuleKernel):
    """`gemlite`: Triton kernels for 1, 2, 4 and 8 bits with float zeros; there is none for 3 bits."""

    name: ClassVar[str] = "gemlite"

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        return _usable("gemlite") and dtype in HALF_TYPES and weight.layout.bits in _GEMLITE_BITS

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        from gemlite.helper import A16Wn  # type: ignore[import-not-found, unused-ignore]

        held, layout = weight.quantized_weight(), weight.layout
        module = A16Wn(device=str(held.codes.device), dtype=dtype).from_weights(
            held.codes, held.scale, held.zero, layout.bits, layout.group_length(weight.columns)
        )
        return cls(dtype, (*module.parameters(), *module.buffers()), module)


def _usable(library: str) -> bool:
    return torch.cuda.is_available() and find_spec(library) is not None
