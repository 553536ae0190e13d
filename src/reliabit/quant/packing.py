"""Dense bit packing: eight codes of `bits` bits take exactly `bits` bytes, 3 bits included.

Each row is one stream of bits, the first code in the lowest bits of the first byte. Read as little-endian 32-bit
words it is the layout of compressed-tensors' `pack-quantized`.
"""

import torch
from torch import Tensor

CODES_A_BLOCK = 8
CODE_WIDTH = 8


def packed_width(columns: int, bits: int) -> int:
    """Bytes that a row of codes takes.

    Example:
        >>> packed_width(64, 3), packed_width(9, 4)
        (24, 8)
    """
    return -(-columns // CODES_A_BLOCK) * bits


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes densely.

    Args:
        codes: uint8 in `[0, 2**bits)`, `[rows, columns]`.
        bits: Bits of a code, 1 to 8.

    Returns:
        uint8, `[rows, packed_width(columns, bits)]`.

    Example:
        >>> pack(torch.tensor([[1, 2, 3, 0, 1, 2, 3, 0]], dtype=torch.uint8), 2)
        tensor([[57, 57]], dtype=torch.uint8)
    """
    rows, columns = codes.shape
    codes = torch.nn.functional.pad(codes, (0, -columns % CODES_A_BLOCK)).contiguous()
    if bits == CODE_WIDTH:
        return codes
    words = codes.view(torch.int64)
    for fields in (1, 2, 4):
        low = _low_fields(fields, bits)
        high = low << CODE_WIDTH * fields
        words = (words & low) | ((words & high) >> (CODE_WIDTH - bits) * fields)
    return words.reshape(rows, -1, 1).view(torch.uint8)[..., :bits].reshape(rows, -1)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Undo `pack`.

    Each block of eight codes becomes a 64-bit word whose codes move apart in three steps, halves, quarters, bytes:
    a handful of whole-word operations, where taking the codes one by one would need strided ones.

    Args:
        packed: uint8, `[rows, packed_width(columns, bits)]`.
        bits: Bits of a code.
        columns: Codes a row.

    Returns:
        uint8, `[rows, columns]`.

    Example:
        >>> unpack(torch.tensor([[57, 57]], dtype=torch.uint8), 2, 6)
        tensor([[1, 2, 3, 0, 1, 2]], dtype=torch.uint8)
    """
    rows = packed.shape[0]
    if bits == CODE_WIDTH:
        return packed[:, :columns]
    padded = torch.zeros((rows, packed.shape[1] // bits, CODES_A_BLOCK), dtype=torch.uint8, device=packed.device)
    padded[..., :bits] = packed.view(rows, -1, bits)
    words = padded.view(torch.int64).squeeze(-1)
    for fields in (4, 2, 1):
        low = _low_fields(fields, bits)
        high = low << CODE_WIDTH * fields
        words = (words << (CODE_WIDTH - bits) * fields).bitwise_and_(high).bitwise_or_(words & low)
    return words.view(torch.uint8)[:, :columns]


def _low_fields(fields: int, bits: int) -> int:
    """Mask of `fields` codes side by side at the low end of each stretch of twice as many bytes."""
    return sum(((1 << bits * fields) - 1) << start for start in range(0, 64, 2 * CODE_WIDTH * fields))
