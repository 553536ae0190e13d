"""Kernels for x86 CPUs and bfloat16 inputs: for few rows stock torch's own, for many tiles.

Their forms hold all that the packed weight does, so that a layer needs no codes beside them.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from reliabit.quant.grid import Layout
from reliabit.quant.kernels import Kernel
from reliabit.quant.kernels.nibbles import NIBBLE, Plane, can_hold
from reliabit.quant.kernels.tiles import multiply_by_tiles, tile_type
from reliabit.quant.packed import PackedWeight, pack, unpack

_INT4_GROUPS = (256, 128, 64, 32)
TILED_BATCH = 24
"""Rows of inputs from which tiles are faster than torch's kernels, as `bench/kernels.py` measures them."""

_CHUNK_WEIGHTS, _CHUNK_ROWS = 2**22, 64
_INT8_TILE = 2**18
_SIGN, _HALF_STEP, _HIGH_HALF = 128, 2**15, -(2**16)


@dataclass(frozen=True)
class Int4Pack(Kernel):
    """The 4-bit kernel, for every width: up to 4 bits in one plane, 5 to 8 bits in two.

    Of a nibble, which holds a code in its high bits, it computes `(nibble - 8) * scale + offset` with scale and offset
    in bfloat16, and for several rows of inputs rounds the product too. Codes of more than 4 bits are split into a high
    and a low plane, 16 times the scale apart.

    Codes that share nibbles, and scales and offsets as the kernel wants them, are made anew for each product, some rows
    at a time.

    Attributes:
        layout: That of the weight.
        planes: The codes, the high plane first.
        scale: In the layout's metadata type, `[chunks, groups, rows]` for chunks of consecutive rows.
        zero: As the scale, or as whole numbers; None for symmetric grids.
        group: Inputs of a group as the kernel has them; a longer one is split into equal ones.
    """

    layout: Layout
    planes: tuple[Plane, ...]
    scale: Tensor
    zero: Tensor | None
    group: int

    name: ClassVar[str] = "int4pack"
    device_type: ClassVar[str] = "cpu"
    holds: ClassVar[tuple[str, ...]] = ("weight_codes", "weight_scale", "weight_zero")

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        fits = all(can_hold(weight.rows, bits) for bits in _plane_bits(weight.layout.bits))
        return dtype == torch.bfloat16 and bool(_int4_group(weight)) and fits

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        layout, codes, columns = weight.layout, weight.weight_codes, weight.columns
        planes, shift = [], layout.bits
        for bits in _plane_bits(layout.bits):
            shift -= bits

            def some(rows: slice, bits: int = bits, shift: int = shift) -> Tensor:
                return unpack(codes[rows], layout.bits, columns).bitwise_right_shift(shift).bitwise_and(2**bits - 1)

            planes.append(Plane.of(some, rows=weight.rows, bits=bits))
        chunk = _chunk_rows(planes[0].part_rows, columns)
        scale, zero = _by_chunk(weight.weight_scale, chunk), None
        if layout.zero != "symmetric":
            zero = _by_chunk(weight.zeros().to(torch.uint8) if layout.zero == "integer" else weight.zeros(), chunk)
        tensors = (*(word for plane in planes for word in plane.words), scale, *([] if zero is None else [zero]))
        return cls(dtype, tensors, layout, tuple(planes), scale, zero, _int4_group(weight))

    def multiply(self, inputs: Tensor) -> Tensor:
        tiled, total = len(inputs) >= TILED_BATCH, None
        for place in range(len(self.planes)):
            product = self._by_tiles(inputs, place) if tiled else self._by_nibbles(inputs, place)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 - there is a plane
        return total.to(inputs.dtype)

    def buffer(self, name: str) -> Tensor | None:
        if name == "weight_codes":
            codes = self.planes[0].codes()
            for plane in self.planes[1:]:
                codes = codes << NIBBLE | plane.codes()
            return pack(codes, self.layout.bits)
        if name == "weight_scale":
            return _by_row(self.scale)
        if self.zero is None or self.layout.zero == "float":
            return None if self.zero is None else _by_row(self.zero)
        return pack(_by_row(self.zero).reshape(1, -1), self.layout.bits)

    def _by_tiles(self, inputs: Tensor, place: int) -> Tensor:
        return multiply_by_tiles(inputs, self.planes[place], lambda rows: self._grid(place, rows), self.group)

    def _by_nibbles(self, inputs: Tensor, place: int) -> Tensor:
        """The product with a plane by torch's kernel, some rows of each part at a time."""
        plane, chunk = self.planes[place], self.scale.shape[2]
        result = inputs.new_empty((len(inputs), len(self.scale) * chunk))
        # Rows are taken by whole blocks of the packing.
        step = plane.part_rows if chunk % _CHUNK_ROWS else chunk
        for start in range(0, plane.part_rows, step):
            stop = start + step
            for part, word in enumerate(plane.nibbles(slice(start, stop))):
                rows = slice(part * plane.part_rows + start, part * plane.part_rows + stop)
                parameters = _pairs(*self._grid(place, rows))
                result[:, rows] = torch.ops.aten._weight_int4pack_mm_for_cpu(inputs, word, self.group, parameters)
        return result

    def _grid(self, place: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Scale and offset of the nibbles of some rows of a plane, float32 `[groups, rows]`.

        The offset of all planes is that of the last.
        """
        scale, zero = _some_rows(self.scale, rows), None if self.zero is None else _some_rows(self.zero, rows)
        repeats = 2 * self.planes[0].words[0].shape[1] // self.group // len(scale)
        if place < len(self.planes) - 1:
            offset = torch.zeros_like(scale)
        else:
            # The code that nibbles of 8 stand for, over all planes.
            middle = sum(2.0 ** (plane.bits - 1) * 16**above for above, plane in enumerate(reversed(self.planes)))
            offset = (
                scale * (middle - self.layout.symmetric_zero) if zero is None else zero.neg_().add_(middle).mul_(scale)
            )
        step = 2.0 ** (self.planes[place].bits - NIBBLE) * 16 ** (len(self.planes) - 1 - place)
        scale = scale if step == 1 else scale * step
        if repeats == 1:
            return scale, offset
        return scale.repeat_interleave(repeats, dim=0), offset.repeat_interleave(repeats, dim=0)


class Int8Pack(Kernel):
    """The 8-bit kernel, for symmetric codes with one scale a row."""

    name: ClassVar[str] = "int8pack"
    device_type: ClassVar[str] = "cpu"
    holds: ClassVar[tuple[str, ...]] = ("weight_codes",)

    @classmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        layout = weight.layout
        whole_row = layout.groups(weight.columns) == 1
        fits = whole_row and layout.zero == "symmetric" and layout.bits == 8
        return fits and hasattr(torch.ops.aten, "_weight_int8pack_mm") and dtype == torch.bfloat16

    @classmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        codes = unpack(weight.weight_codes, weight.layout.bits, weight.columns)
        return cls(dtype, ((codes ^ _SIGN).view(torch.int8), weight.weight_scale.reshape(-1).to(dtype)))

    def multiply(self, inputs: Tensor) -> Tensor:
        codes, scale = self.tensors
        if len(inputs) < TILED_BATCH:
            product: Tensor = torch.ops.aten._weight_int8pack_mm(inputs, codes, scale)
            return product
        values, result = inputs.to(tile_type()), inputs.new_empty((len(inputs), len(codes)))
        step = max(1, _INT8_TILE // inputs.shape[1])
        for start in range(0, len(codes), step):
            rows = slice(start, start + step)
            result[:, rows] = values @ codes[rows].to(values.dtype).T * scale[rows].float()
        return result

    def buffer(self, name: str) -> Tensor | None:
        return self.tensors[0].view(torch.uint8) ^ _SIGN if name == "weight_codes" else None


def _plane_bits(bits: int) -> tuple[int, ...]:
    """Bits of each plane, the high one first."""
    return (bits,) if bits <= NIBBLE else (bits - NIBBLE, NIBBLE)


def _int4_group(weight: PackedWeight) -> int:
    """The group size the weight has for the kernel, 0 where it has none; a longer group is split into equal ones."""
    length = weight.layout.group_length(weight.columns)
    return next((size for size in _INT4_GROUPS if not length % size), 0)


def _chunk_rows(part_rows: int, columns: int) -> int:
    """Rows of a chunk: a divisor of a part, of whole blocks of the packing, or the part itself where there is none."""
    chunks = (rows for rows in range(part_rows, 0, -1) if not part_rows % rows and not rows % _CHUNK_ROWS)
    return next((rows for rows in chunks if rows * columns <= _CHUNK_WEIGHTS or rows == _CHUNK_ROWS), part_rows)


def _by_chunk(table: Tensor, rows: int) -> Tensor:
    """Cut `[rows, groups]` into chunks of rows, `[chunks, groups, rows]`."""
    return table.reshape(-1, rows, table.shape[1]).mT.contiguous()


def _by_row(table: Tensor) -> Tensor:
    """Undo `_by_chunk`."""
    return table.mT.flatten(0, 1).contiguous()


def _some_rows(table: Tensor, rows: slice) -> Tensor:
    """Some rows of a table by chunk, float32 `[groups, rows]`."""
    chunk = table.shape[2]
    first, last = rows.start // chunk, -(-rows.stop // chunk)
    if last - first == 1 and rows.stop - rows.start == chunk:
        return table[first].float()
    flat = table[first:last].transpose(0, 1).flatten(1)
    return flat[:, rows.start - first * chunk : rows.stop - first * chunk].float()


def _pairs(scale: Tensor, offset: Tensor) -> Tensor:
    """Scale and offset, float32, side by side in bfloat16, `[groups, rows, 2]`; whole words are faster than `stack`."""
    high = offset.view(torch.int32).add_(_HALF_STEP).bitwise_and_(_HIGH_HALF)
    low = scale.view(torch.int32).add_(_HALF_STEP).bitwise_right_shift_(16).bitwise_and_(0xFFFF)
    return high.bitwise_or_(low).view(torch.bfloat16).view(*scale.shape, 2)
