"""Kernels of stock torch on x86 CPUs: `_weight_int4pack_mm_for_cpu` and `_weight_int8pack_mm`, for bfloat16 inputs."""

from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from reliabit.quant.kernels import Kernel
from reliabit.quant.packed import PackedWeight, unpack

_INT4_BITS = 4
_INT4_GROUPS = (256, 128, 64, 32)
_INT4_ROWS = 16
_INT4_BLOCK_ROWS = 64
INT4_LARGEST_BATCH = {1: 384, 2: 128}
_INT8_LARGEST_BATCH = 128
"""Rows of inputs (for the 4-bit kernel by planes) beyond which dequantizing and multiplying is faster.

As `bench/quantize.py` measures them; on one thread the ways cross there, on two the kernel holds out a little longer.
"""


class _Plane(NamedTuple):
    """Some rows of 4-bit codes.

    Attributes:
        packed: The codes as the kernel wants them.
        parameters: Scales and offsets in bfloat16, `[groups, rows, 2]`.
    """

    packed: Tensor
    parameters: Tensor


class Int4Pack(Kernel):
    """The 4-bit kernel, for every width: up to 4 bits in one plane, 5 to 8 bits in two.

    It computes `(code - 8) * scale + offset` with scale and offset in bfloat16, and for batches rounds the product
    too. Codes of fewer bits are moved so that the zero of their group falls near 8: small weights then come from small
    products, and little is lost. Codes of more bits are split into a high and a low plane, 16 times the scale apart.
    In memory a plane takes 4 bits a weight whatever the width.
    """

    name: ClassVar[str] = "int4pack"
    device_type: ClassVar[str] = "cpu"

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        has_kernel = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
        return has_kernel and dtype == torch.bfloat16 and not weight.rows % _INT4_ROWS and bool(_int4_group(weight))

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        # Block by block, which the packing allows: it wants four bytes a code.
        blocks = [
            _int4_block(weight, slice(start, min(start + _INT4_BLOCK_ROWS, weight.rows)))
            for start in range(0, weight.rows, _INT4_BLOCK_ROWS)
        ]
        planes = list(zip(*blocks, strict=True))
        packed = [torch.cat([plane.packed for plane in parts]) for parts in planes]
        parameters = [torch.cat([plane.parameters for plane in parts], dim=1) for parts in planes]
        tensors = [tensor for pair in zip(packed, parameters, strict=True) for tensor in pair]
        return cls(dtype, INT4_LARGEST_BATCH[len(planes)], tuple(tensors))

    def multiply(self, inputs: Tensor) -> Tensor:
        products = [
            torch.ops.aten._weight_int4pack_mm_for_cpu(inputs, packed, inputs.shape[1] // len(parameters), parameters)
            for packed, parameters in zip(self.tensors[::2], self.tensors[1::2], strict=True)
        ]
        total: Tensor = sum(products[1:], start=products[0])
        return total


class Int8Pack(Kernel):
    """The 8-bit kernel, for symmetric codes with one scale a row."""

    name: ClassVar[str] = "int8pack"
    device_type: ClassVar[str] = "cpu"

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        layout = weight.layout
        whole_row = layout.groups(weight.columns) == 1
        fits = whole_row and layout.zero == "symmetric" and layout.bits == 8
        return fits and hasattr(torch.ops.aten, "_weight_int8pack_mm") and dtype == torch.bfloat16

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        held = weight.quantized_weight()
        codes = (held.codes.to(torch.int16) - 128).to(torch.int8)
        return cls(dtype, _INT8_LARGEST_BATCH, (codes, held.scale.reshape(-1).to(dtype)))

    def multiply(self, inputs: Tensor) -> Tensor:
        codes, scale = self.tensors
        product: Tensor = torch.ops.aten._weight_int8pack_mm(inputs, codes, scale)
        return product


def _int4_group(weight: PackedWeight) -> int:
    """The group size the weight has for the kernel, 0 where it has none; a longer group is split into equal ones."""
    length = weight.layout.group_length(weight.columns)
    return next((size for size in _INT4_GROUPS if not length % size), 0)


def _int4_block(weight: PackedWeight, rows: slice) -> list[_Plane]:
    """The planes of some rows."""
    group, bits = _int4_group(weight), weight.layout.bits
    repeats = weight.layout.group_length(weight.columns) // group
    scale, zero = (
        part[rows].float().repeat_interleave(repeats, dim=1) for part in (weight.weight_scale, weight.zeros())
    )
    codes = unpack(weight.weight_codes[rows], bits, weight.columns).reshape(*scale.shape, group)
    if bits <= _INT4_BITS:
        centre = _centre(zero, bits)
        return [_plane(codes, centre, scale, scale * (centre - zero))]
    centre = _centre((zero / 16).floor(), bits - _INT4_BITS)
    return [
        _plane(codes >> 4, centre, 16 * scale, torch.zeros_like(scale)),
        _plane(codes & 15, torch.full_like(centre, 8), scale, scale * (16 * centre + 8 - zero)),
    ]


def _centre(zero: Tensor, bits: int) -> Tensor:
    """The code that is to become 8: as near to the zero as codes of this width can move within 0 to 15."""
    return zero.round().clamp(max(0, 2**bits - 8), 8)


def _plane(codes: Tensor, centre: Tensor, scale: Tensor, offset: Tensor) -> _Plane:
    """Bring codes, `[rows, groups, group_size]`, into the kernel's packing.

    `centre` is the code of each group that becomes 8, `offset` what is added to `(code - 8) * scale`, `[rows, groups]`.
    """
    moved = (codes + (8 - centre).to(torch.uint8)[..., None]).flatten(1)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(moved.to(torch.int32), 1)
    return _Plane(packed, torch.stack([scale.T, offset.T], dim=-1).to(torch.bfloat16))
