"""Dense bit packing, and `PackedWeight`, the matrix of packed codes that layers and kernels share.

Eight codes of `bits` bits take exactly `bits` bytes, 3 bits included. Each row is one stream of bits, the first code in
the lowest bits of the first byte. Read as little-endian 32-bit words it is the layout of compressed-tensors'
`pack-quantized`.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from reliabit.quant.grid import Layout, QuantizedWeight, dequantize, row_chunks

_CODES_A_BLOCK = 8
_CODE_WIDTH = 8


def packed_width(columns: int, bits: int) -> int:
    """Bytes that a row of codes takes.

    Example:
        >>> packed_width(64, 3), packed_width(9, 4)
        (24, 8)
    """
    return -(-columns // _CODES_A_BLOCK) * bits


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes, uint8 `[rows, columns]`, densely into `[rows, packed_width(columns, bits)]`.

    Example:
        >>> pack(torch.tensor([[1, 2, 3, 0, 1, 2, 3, 0]], dtype=torch.uint8), 2)
        tensor([[57, 57]], dtype=torch.uint8)
    """
    rows, columns = codes.shape
    codes = torch.nn.functional.pad(codes, (0, -columns % _CODES_A_BLOCK)).contiguous()
    if bits == _CODE_WIDTH:
        return codes
    words = codes.view(torch.int64)
    for fields in (1, 2, 4):
        low = _low_fields(fields, bits)
        high = low << _CODE_WIDTH * fields
        words = (words & low) | ((words & high) >> (_CODE_WIDTH - bits) * fields)
    return words.reshape(rows, -1, 1).view(torch.uint8)[..., :bits].reshape(rows, -1)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Undo `pack`, from uint8 `[rows, packed_width(columns, bits)]` to `[rows, columns]`.

    Each block of eight codes becomes a 64-bit word whose codes move apart in three steps, halves, quarters, bytes:
    a handful of whole-word operations, where taking the codes one by one would need strided ones.

    Example:
        >>> unpack(torch.tensor([[57, 57]], dtype=torch.uint8), 2, 6)
        tensor([[1, 2, 3, 0, 1, 2]], dtype=torch.uint8)
    """
    rows = packed.shape[0]
    if bits == _CODE_WIDTH:
        return packed[:, :columns]
    padded = torch.zeros((rows, packed.shape[1] // bits, _CODES_A_BLOCK), dtype=torch.uint8, device=packed.device)
    padded[..., :bits] = packed.view(rows, -1, bits)
    words = padded.view(torch.int64).squeeze(-1)
    for fields in (4, 2, 1):
        low = _low_fields(fields, bits)
        high = low << _CODE_WIDTH * fields
        words = (words << (_CODE_WIDTH - bits) * fields).bitwise_and_(high).bitwise_or_(words & low)
    return words.view(torch.uint8)[:, :columns]


def _low_fields(fields: int, bits: int) -> int:
    """Mask of `fields` codes side by side at the low end of each stretch of twice as many bytes."""
    return sum(((1 << bits * fields) - 1) << start for start in range(0, 64, 2 * _CODE_WIDTH * fields))


class Holder(Protocol):
    """What holds buffers of a packed weight in a form of its own, on the device of the weight.

    Attributes:
        holds: Their names.
    """

    holds: ClassVar[tuple[str, ...]]

    def buffer(self, name: str) -> Tensor | None:
        """One of them, exactly as it was packed."""


class PackedWeight(nn.Module):
    """Buffers of a quantized matrix, shared by the layers that hold one.

    The buffers are what a checkpoint stores: `weight_codes`, uint8 `[rows, packed_width]`; `weight_scale`,
    `[rows, groups]`; `weight_zero`, `[rows, groups]` for float zeros, one densely packed row for integer ones, and
    absent for symmetric grids.

    Attributes:
        rows: Outputs of a linear layer, tokens of an embedding.
        columns: Inputs of a linear layer, width of an embedding.
        layout: How the weight is stored.
    """

    weight_codes: Tensor
    weight_scale: Tensor
    weight_zero: Tensor | None
    _holder: tuple[Holder, torch.device] | None = None

    def __init__(self, rows: int, columns: int, layout: Layout, device: torch.device | str | None = None) -> None:
        """Make empty buffers; `hold` or a checkpoint fills them."""
        super().__init__()
        self.rows, self.columns, self.layout = rows, columns, layout
        groups, metadata = layout.groups(columns), layout.metadata_dtype
        codes = torch.zeros((rows, packed_width(columns, layout.bits)), dtype=torch.uint8, device=device)
        self.register_buffer("weight_codes", codes)
        self.register_buffer("weight_scale", torch.zeros((rows, groups), dtype=metadata, device=device))
        zero: Tensor | None = None
        if layout.zero == "float":
            zero = torch.zeros((rows, groups), dtype=metadata, device=device)
        elif layout.zero == "integer":
            zero = torch.zeros((1, packed_width(rows * groups, layout.bits)), dtype=torch.uint8, device=device)
        self.register_buffer("weight_zero", zero)

    def hold(self, weight: QuantizedWeight) -> None:
        """Take over a quantized weight of this module's layout."""
        self._holder = None
        self.weight_codes = pack(weight.codes, self.layout.bits)
        self.weight_scale = weight.scale
        if self.layout.zero == "float":
            self.weight_zero = weight.zero
        elif self.layout.zero == "integer":
            self.weight_zero = pack(weight.zero.to(torch.uint8).reshape(1, -1), self.layout.bits)

    def quantized_weight(self) -> QuantizedWeight:
        """Unpack the codes, `[rows, columns]`, with their scales and zeros."""
        codes = unpack(self.weight_codes, self.layout.bits, self.columns)
        return QuantizedWeight(codes, self.weight_scale, self.zeros(), self.layout)

    def lend(self, holder: Holder) -> None:
        """Keep no buffers that something holds already; whoever reads one then gets it packed anew."""
        self._holder = holder, self.device
        self._buffers.update(dict.fromkeys(holder.holds))

    def take_back(self) -> None:
        """Keep all buffers again."""
        self._buffers.update(self._lent())
        self._holder = None

    def _lent(self) -> dict[str, Tensor | None]:
        return {} if self._holder is None else {name: self._holder[0].buffer(name) for name in self._holder[0].holds}

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.weight_codes.device if self._holder is None else self._holder[1]

    def __getattr__(self, name: str) -> Any:
        """A parameter, buffer or module."""
        found: Any = super().__getattr__(name)
        holder = self._holder if found is None else None
        return found if holder is None or name not in holder[0].holds else holder[0].buffer(name)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the codes, scales and zeros, packed."""
        groups, bits = self.layout.groups(self.columns), self.layout.bits
        table = self.rows * groups * self.layout.metadata_dtype.itemsize
        zeros = {"float": table, "integer": packed_width(self.rows * groups, bits), "symmetric": 0}
        return self.rows * packed_width(self.columns, bits) + table + zeros[self.layout.zero]

    def zeros(self) -> Tensor:
        """The zero of each group, `[rows, groups]`, in the layout's metadata type."""
        shape = self.rows, self.layout.groups(self.columns)
        zero = self.weight_zero
        if zero is None:
            return torch.full_like(self.weight_scale, self.layout.symmetric_zero)
        if self.layout.zero == "float":
            return zero
        packed = unpack(zero, self.layout.bits, math.prod(shape))
        return packed.reshape(shape).to(self.layout.metadata_dtype)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes stand for, `[rows, columns]`; computed in float32, then cast."""
        packed, scale, zeros = self.weight_codes, self.weight_scale, self.zeros()
        weight = torch.empty((self.rows, self.columns), dtype=dtype, device=packed.device)
        for rows in row_chunks(self.rows, self.columns, weight.device):
            weight[rows] = dequantize(unpack(packed[rows], self.layout.bits, self.columns), scale[rows], zeros[rows])
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedWeight":
        """Move buffers, but keep the type of scales and zeros: `model.to(torch.bfloat16)` would ruin them.

        A cast leaves integers alone, so scales and zeros pass through it as integers.
        """
        if self._holder is not None and fn(torch.empty(0, dtype=torch.uint8, device=self.device)).device != self.device:
            self.take_back()
        protected = {id(self._buffers[name]) for name in ("weight_scale", "weight_zero")}

        def keep_type(tensor: Tensor) -> Tensor:
            if id(tensor) not in protected or not tensor.is_floating_point():
                return fn(tensor)
            as_integers = torch.int16 if tensor.itemsize == 2 else torch.int32
            return fn(tensor.view(as_integers)).view(tensor.dtype)

        super()._apply(keep_type, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        lent = self._lent()
        self._buffers.update(lent)
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self._buffers.update(dict.fromkeys(lent))

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        self.take_back()
        super()._load_from_state_dict(*arguments, **keywords)
