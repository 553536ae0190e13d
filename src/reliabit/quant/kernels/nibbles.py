"""Codes in the packing of torch's 4-bit kernel for CPUs, no wider than they are stored.

The kernel wants a nibble a code, in an order of rows that is its own (`_has_pairs`). Codes of 1 to 3 bits share
nibbles, so that they take no more room than packed: the rows of a weight are cut into equal parts, and a nibble holds
codes of the same place in several of them. Two or four codes of one part then come apart by masks and shifts over
whole words (`spread`), whatever the kernel's order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

NIBBLE = 4
_LEAST_ROWS = 16
_BLOCKS = (64, 32, 16)
_PACKED_ROWS = 64
_PARTS = {1: 4, 2: 2, 3: 4, 4: 1}
_THREE_BITS = 3
_PROBED_COLUMNS = 64


class Run(NamedTuple):
    """Consecutive rows of a part that lie in blocks of one kind.

    Attributes:
        start: The first row.
        stop: The row after the last.
        block: Rows of a block.
        pairs: Whether neighbouring rows share bytes, rather than a block's first half with its second.
    """

    start: int
    stop: int
    block: int
    pairs: bool

    def by_side(self, rows: Tensor) -> Tensor:
        """View `[..., rows of the run]` as `[2, ..., blocks, block / 2]`: those in low nibbles, and those in high ones.

        Example:
            >>> Run(0, 8, 4, pairs=False).by_side(torch.arange(8)).tolist()
            [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
        """
        half = self.block // 2
        sides = torch.unflatten(rows, -1, (-1, half, 2) if self.pairs else (-1, 2, half))
        return (sides if self.pairs else sides.mT).movedim(-1, 0)


@dataclass(frozen=True)
class Plane:
    """Codes of 1 to 4 bits, `[rows, columns]`.

    Attributes:
        bits: Bits of a code.
        parts: Parts of the rows that share nibbles.
        words: What holds them in the kernel's packing, uint8 `[rows / parts, columns / 2]` each.
    """

    bits: int
    parts: int
    words: tuple[Tensor, ...]

    @classmethod
    def of(cls, codes: Callable[[slice], Tensor], *, rows: int, bits: int) -> "Plane":
        """Pack codes, which are asked for some rows at a time: the packing wants four bytes a code."""
        parts = _PARTS[bits] if not rows % (_PARTS[bits] * _LEAST_ROWS) else 1
        length = rows // parts
        words: list[Tensor] = []
        for start in range(0, length, _PACKED_ROWS):
            stop = min(start + _PACKED_ROWS, length)
            shared = _share([codes(slice(part * length + start, part * length + stop)) for part in range(parts)], bits)
            words = words or [word.new_empty((length, word.shape[1] // 2)) for word in shared]
            for place, word in zip(words, shared, strict=True):
                place[start:stop] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(word.int(), 1)
        return cls(bits, parts, tuple(words))

    @property
    def part_rows(self) -> int:
        """Rows of a part."""
        return len(self.words[0])

    def runs(self) -> Iterator[Run]:
        """The rows of a part by the kind of block they lie in: whole blocks, and what is left."""
        block = _block_rows()
        whole = self.part_rows // block * block
        for start, stop, length in ((0, whole, block), (whole, self.part_rows, self.part_rows - whole)):
            if stop > start:
                yield Run(start, stop, length, bool(_has_pairs(length)))

    def nibbles(self, rows: slice) -> Iterator[Tensor]:
        """What the kernel takes of some rows of each part, the code in the high bits of its nibble."""
        for word in spread([word[rows].view(torch.int64) for word in self.words], self.bits, self.parts):
            yield word.view(torch.uint8)

    def codes(self) -> Tensor:
        """The codes again, uint8 `[rows, columns]`."""
        columns = 2 * self.words[0].shape[1]
        codes = torch.empty((self.parts, self.part_rows, columns), dtype=torch.uint8)
        for run in self.runs():
            for start in range(run.start, run.stop, run.block):
                rows = slice(start, start + run.block)
                for part, word in enumerate(self.nibbles(rows)):
                    both = torch.stack([word & 15, word >> NIBBLE]) >> NIBBLE - self.bits
                    run.by_side(codes[part, rows].T)[:] = both.view(2, columns, 1, -1)
        return codes.view(-1, columns)


def can_hold(rows: int, bits: int) -> bool:
    """Whether the kernel's packing takes so many rows, and its order is known here.

    Example:
        >>> can_hold(24, 4)
        False
    """
    if rows % _LEAST_ROWS or not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu") or not _block_rows():
        return False
    parts = _PARTS[bits] if not rows % (_PARTS[bits] * _LEAST_ROWS) else 1
    rest = rows // parts % _block_rows()
    return not rest or _has_pairs(rest) is not None


def spread(words: Sequence[Tensor], bits: int, parts: int) -> Iterator[Tensor]:
    """Take codes that share nibbles apart, part by part, the code in the high bits of its nibble.

    Args:
        words: int64 of any shape.
        bits: Bits of a code.
        parts: How many share; 1 where none do.

    Example:
        >>> [hex(int(word)) for word in spread([torch.tensor([0xE4])], 2, 2)]
        ['0xc4', '0x80']
    """
    mask = _everywhere(16 - 2 ** (NIBBLE - bits))
    if parts == 1:
        yield words[0]
    elif bits == _THREE_BITS:
        yield from (word & mask for word in words)
        last = (words[0] & _everywhere(1)).bitwise_left_shift_(1)
        for word in words[1:]:
            last = last.bitwise_or_(word & _everywhere(1)).bitwise_left_shift_(1)
        yield last
    else:
        yield words[0] & mask
        yield from ((words[0] << bits * part).bitwise_and_(mask) for part in range(1, parts))


def _share(codes: Sequence[Tensor], bits: int) -> list[Tensor]:
    """Put codes of several parts, uint8 of one shape, into nibbles: what `spread` takes apart.

    Three codes of three bits leave a bit of their nibbles to one bit each of the fourth.
    """
    if len(codes) == 1:
        return [codes[0] << NIBBLE - bits]
    if bits == _THREE_BITS:
        *first, last = codes
        return [code << 1 | last >> 2 - place & 1 for place, code in enumerate(first)]
    shared = codes[0] << NIBBLE - bits
    for part, code in enumerate(codes[1:], start=2):
        shared = shared | code << NIBBLE - bits * part
    return [shared]


def _everywhere(nibble: int) -> int:
    """A nibble in every place of a 64-bit word, as the signed number that torch knows it by."""
    return int.from_bytes(bytes([nibble * 17]) * 8, "little", signed=True)


@cache
def _block_rows() -> int:
    """Rows of a block of the kernel's packing on this processor, 0 where it is none that is known."""
    return next((rows for rows in _BLOCKS if _has_pairs(rows) is not None), 0)


@cache
def _has_pairs(block: int) -> bool | None:
    """Which rows of a block share bytes (`Run.pairs`); None where it is neither way, or not the same in every column.

    The packing differs between processors and is written down nowhere, so it is asked: rows are packed that say their
    own number, half of it at a time.
    """

    def packed(number: Tensor) -> Tensor:
        table = number[:, None].expand(block, _PROBED_COLUMNS).to(torch.int32).contiguous()
        word = torch.ops.aten._convert_weight_to_int4pack_for_cpu(table, 1).reshape(_PROBED_COLUMNS, -1)
        return torch.stack([word & 15, word >> NIBBLE])

    number = torch.arange(block)
    found = packed(number & 15) + 16 * packed(number >> NIBBLE)
    for pairs in (False, True):
        expected = Run(0, block, block, pairs).by_side(number)
        if found.numel() == block * _PROBED_COLUMNS and (found == expected).all():
            return pairs
    return None
