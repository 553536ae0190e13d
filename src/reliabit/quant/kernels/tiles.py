"""Products with many rows of inputs: codes become numbers a tile at a time, and are multiplied by in the cache.

A weight in bfloat16 is read from memory whole; its codes are a quarter of that or less, and what they stand for never
leaves the cache.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from reliabit.quant.kernels.nibbles import Plane, Run, spread

TILE_COLUMNS, TILE_ROWS = 512, 512
"""Inputs and outputs of a tile at most: half of it, the low or the high nibbles, in float32 is half a MiB."""

Grid = Callable[[slice], tuple[Tensor, Tensor]]
"""Scale and offset, `[groups, rows]` in float32, of some rows of a weight, `(nibble - 8) * scale + offset`."""

_CENTRE = 8
_UNITS = torch.tensor([1.0, 1 / 16])[:, None, None, None, None]
_NIBBLES = (0x0F0F0F0F0F0F0F0F, -0x0F0F0F0F0F0F0F10)


@cache
def tile_type() -> torch.dtype:
    """What tiles are multiplied in: bfloat16 where the processor is faster at it than at float32.

    Those with matrix units are, and AMD's; Intel's without such units do half as many products a second in bfloat16.
    """
    found = torch.cpu.get_capabilities()
    fast = found.get("amx_bf16") or (found.get("avx512_bf16") and "AMD" in str(found.get("cpu_name")))
    return torch.bfloat16 if fast else torch.float32


def multiply_by_tiles(inputs: Tensor, plane: Plane, grid: Grid, group: int) -> Tensor:
    """`inputs @ weight.T` in float32, `[batch, columns]` to `[batch, rows]`.

    Args:
        inputs: Floating point.
        plane: The codes of the weight.
        grid: What they stand for.
        group: Consecutive columns that share scale and offset.
    """
    result = torch.empty((len(inputs), plane.parts * plane.part_rows))
    sums = inputs.float().reshape(len(inputs), -1, group).sum(2)
    step = max(1, TILE_COLUMNS // group) * group
    values = [some.contiguous() for some in torch.split(inputs.to(tile_type()), step, dim=1)]
    for run in plane.runs():
        rows = max(1, TILE_ROWS // run.block) * run.block
        for start in range(run.start, run.stop, rows):
            some = run._replace(start=start, stop=min(start + rows, run.stop))
            _multiply_some(values, sums, plane, grid, run=some, result=result)
    return result


def _multiply_some(values: list[Tensor], sums: Tensor, plane: Plane, grid: Grid, *, run: Run, result: Tensor) -> None:
    """Fill the columns of the result that some rows of each part give, from inputs that are cut into tiles' columns."""
    step, half, blocks = values[0].shape[1], run.block // 2, (run.stop - run.start) // run.block
    columns = sum(value.shape[1] for value in values)
    group = columns // sums.shape[1]
    # In float32 it makes no difference where the zero of the codes lies; rounding to bfloat16 wants them small.
    centre = _CENTRE if values[0].dtype == torch.bfloat16 else 0
    scales, totals = [], []
    for part in range(plane.parts):
        first = part * plane.part_rows
        scale, offset = grid(slice(first + run.start, first + run.stop))
        totals.append(run.by_side(sums @ offset.sub_(scale, alpha=_CENTRE - centre)).transpose(1, 2).contiguous())
        by_block = run.by_side(scale).transpose(1, 2).unsqueeze(3) * _UNITS
        scales.append(torch.split(by_block, step // group, dim=2))
    words = [word[run.start : run.stop].view(torch.int64).view(blocks, columns, -1) for word in plane.words]
    # One place in memory for all tiles, so that it stays in the cache.
    room = torch.empty((blocks * step * half // 8), dtype=torch.int64), torch.empty(blocks * step * half)
    for place, value in enumerate(values):
        width = value.shape[1]
        codes, tile = (memory[: len(memory) // step * width].view(blocks, width, -1) for memory in room)
        numbers, by_group = codes.view(torch.uint8), tile.view(blocks, -1, group, half)
        cut = [word[:, place * step : place * step + width] for word in words]
        for by_place, total, word in zip(scales, totals, spread(cut, plane.bits, plane.parts), strict=True):
            for side, mask in enumerate(_NIBBLES):
                torch.bitwise_and(word, mask, out=codes)
                tile.copy_(numbers)
                if centre:
                    tile -= centre * 16**side
                by_group *= by_place[place][side]
                _add_product(total[side], value.expand(blocks, -1, -1), tile)
    for part, total in enumerate(totals):
        first = part * plane.part_rows
        run.by_side(result[:, first + run.start : first + run.stop])[:] = total.transpose(1, 2)


def _add_product(total: Tensor, values: Tensor, tile: Tensor) -> None:
    if values.dtype == torch.float32:
        total.baddbmm_(values, tile)
    else:
        total += values @ tile.to(values.dtype)
