"""What a quantized weight is: codes on a grid with one scale and one zero a group."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.record import CHOICES, MetadataType, ZeroKind
from reliabit.quant.settings import GROUP_SIZES

_CODE_BITS = range(1, 9)
_GROUP_SIZES = range(16, 257)

_LARGEST_EXACT_ZERO = 2048.0
_SMALLEST_SCALE = 2.0**-20
_ROUNDING = 1.5 * 2.0**23

CHUNK_WEIGHTS = {"cpu": 2**15 - 1, "cuda": 2**24}
"""Weights worked on at a time, by device.

On a CPU the few float32 copies of a chunk stay in a core's cache, and torch splits no operation below 2**15 elements
over threads: in operations this short, waiting for each other costs about what a second core gives, and on a shared
machine many times more (3584x3584, HQQ at 4 bits: 0.6 s in small chunks, 5 s and more in large ones beside other jobs).
"""

CHUNKS_TOGETHER = 4
"""Chunks that a solver of many short operations works on side by side.

They still fit the cache, and each operation is long enough to be worth its call. They are solved on one thread: with
two that sleep while they wait for each other, 2048x2048 took 0.21 s where one takes 0.15 s.
"""


@dataclass(frozen=True)
class Layout:
    """How the weight of one module is stored.

    Attributes:
        bits: Bits of a code, 1 to 8.
        group_size: Consecutive inputs of one row that share a scale and a zero; None is the whole row.
        zero: Where the zero may lie.
        metadata: The type that scales and float zeros are stored in.
    """

    bits: int
    group_size: int | None
    zero: ZeroKind = "float"
    metadata: MetadataType = "float16"

    @property
    def metadata_dtype(self) -> torch.dtype:
        """The torch type of scales and float zeros."""
        dtype: torch.dtype = getattr(torch, self.metadata)
        return dtype

    @property
    def symmetric_zero(self) -> float:
        """The one zero of a symmetric grid, half the number of codes."""
        return float(2 ** (self.bits - 1))

    def group_length(self, in_features: int) -> int:
        """Inputs a group."""
        return in_features if self.group_size is None else self.group_size

    def groups(self, in_features: int) -> int:
        """Groups a row."""
        return in_features // self.group_length(in_features)


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight as codes, scales and zeros; `weight = (codes - zero) * scale` in float32.

    Attributes:
        codes: uint8 in `[0, 2**bits)`, `[out_features, in_features]`.
        scale: `[out_features, groups]`, in the layout's metadata type.
        zero: `[out_features, groups]`, in the layout's metadata type, whatever its kind.
        layout: How it is stored.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    layout: Layout

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes stand for, `[out_features, in_features]`."""
        return dequantize(self.codes, self.scale, self.zero).to(dtype)


def dequantize(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Turn codes into weights; this defines what every faster path must give.

    Args:
        codes: Whole numbers, `[out_features, in_features]`.
        scale: `[out_features, groups]`; `in_features` is a multiple of `groups`.
        zero: `[out_features, groups]`.

    Returns:
        `(codes - zero) * scale` in float32, `[out_features, in_features]`.

    Example:
        >>> dequantize(torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0.5, 2.0]]), torch.tensor([[1.0, 2.0]]))
        tensor([[-0.5000,  0.0000,  0.0000,  2.0000]])
    """
    rows, columns = codes.shape
    grouped = codes.reshape(rows, scale.shape[1], -1).to(torch.float32)
    return ((grouped - zero.float()[..., None]) * scale.float()[..., None]).reshape(rows, columns)


def encode(groups: Tensor, *, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """The nearest codes of weights `[groups, group_size]` on grids `[groups, 1]`, uint8; no scale may be zero.

    Example:
        >>> encode(torch.tensor([[-1.0, 0.2, 9.0]]), scale=torch.tensor([[0.5]]), zero=torch.tensor([[2.0]]), bits=2)
        tensor([[0, 2, 3]], dtype=torch.uint8)
    """
    return nearest_codes_((groups / scale).add_(zero), bits).to(torch.uint8)


def nearest_codes_(places: Tensor, bits: int) -> Tensor:
    """Round places on a grid, `weight / scale + zero`, to codes in `[0, 2**bits)`; float32 of any shape, in place.

    Adding and subtracting 1.5 * 2**23 rounds a float32 of this size to the nearest whole number, halves to even, as
    `torch.round` does; but `torch.round` on a CPU spreads even small tensors over threads, which costs more than the
    rounding.

    Example:
        >>> nearest_codes_(torch.tensor([-3.0, 0.5, 1.5, 2.4, 9.0]), 2)
        tensor([0., 0., 2., 2., 3.])
    """
    return places.clamp_(0, 2**bits - 1).add_(_ROUNDING).sub_(_ROUNDING)


def metadata_type(scale: Tensor, zero: Tensor) -> MetadataType:
    """Choose the smallest type that holds scales and zeros, float32 of any shape, without harm.

    Half precision shifts or stretches a grid by a fraction of a step, which re-encoding absorbs, except where a
    scale falls among its last few subnormal numbers or overflows, or a zero lies beyond its exact whole numbers.

    Example:
        >>> metadata_type(torch.tensor([1e-3]), torch.tensor([7.5]))
        'float16'
        >>> metadata_type(torch.tensor([1e-3]), torch.tensor([-90000.0]))
        'float32'
    """
    magnitude = scale.abs()
    fits = magnitude.amin() >= _SMALLEST_SCALE and magnitude.amax() <= torch.finfo(torch.float16).max
    return "float16" if fits and zero.abs().amax() <= _LARGEST_EXACT_ZERO else "float32"


def check_layout(*, bits: int, group_size: int | None, zero: str, in_features: int, name: str) -> None:
    """Refuse a layout that no weight of this width can have.

    Raises:
        ReliabitError: Bits outside 1 to 8, a group size outside 16 to 256 or that does not divide the inputs (a
            group never straddles two rows), or an unknown kind of zero.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or bits not in _CODE_BITS:
        raise ReliabitError(f"{name}: {bits!r} bits are not supported; choose from 1 to 8")
    if zero not in CHOICES["zero"]:
        raise ReliabitError(f"{name}: unknown kind of zero {zero!r}; choose from {', '.join(CHOICES['zero'])}")
    if group_size is None:
        return
    if isinstance(group_size, bool) or not isinstance(group_size, int) or group_size not in _GROUP_SIZES:
        raise ReliabitError(f"{name}: group size {group_size!r} is not supported; choose 16 to 256, or null for a row")
    if in_features % group_size:
        fitting = ", ".join(str(size) for size in GROUP_SIZES if not in_features % size)
        raise ReliabitError(
            f"{name}: group size {group_size} does not divide its {in_features} inputs; choose "
            f"{f'one of {fitting}, or ' if fitting else ''}null for whole rows"
        )


def row_chunks(rows: int, columns: int, device: torch.device, *, together: int = 1) -> Iterator[slice]:
    """Cut a matrix into slices of whole rows, one row at least, that are worked on one after the other.

    Args:
        rows: Rows of the matrix.
        columns: Its columns.
        device: Where it lies.
        together: How many such slices are taken as one.

    Example:
        >>> list(row_chunks(20, 4096, torch.device("cpu")))
        [slice(0, 7, None), slice(7, 14, None), slice(14, 20, None)]
    """
    step = max(1, CHUNK_WEIGHTS.get(device.type, CHUNK_WEIGHTS["cuda"]) // columns) * together
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
