"""How much of a weight is worked on at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CHUNK_WEIGHTS = {"cpu": 2**15 - 1, "cuda": 2**24}
"""Weights worked on at a time, by device.

On a CPU the few float32 copies of a chunk stay in a core's cache, and torch splits no operation below 2**15 elements
over threads: in operations this short, waiting for each other costs about what a second core gives, and on a shared
machine many times more (3584x3584, HQQ at 4 bits: 0.6 s in small chunks, 5 s and more in large ones beside other jobs).
"""


def row_chunks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Cut a matrix into chunks of whole rows.

    Args:
        rows: Rows of the matrix.
        columns: Columns of the matrix.
        device: Where it lies.

    Yields:
        Slices that cover the rows in order; one row at least.

    Example:
        >>> list(row_chunks(20, 4096, torch.device("cpu")))
        [slice(0, 7, None), slice(7, 14, None), slice(14, 20, None)]
    """
    step = max(1, CHUNK_WEIGHTS.get(device.type, CHUNK_WEIGHTS["cuda"]) // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread for the length of a block.

    For preparations whose operations are short but too large for `row_chunks`: beside other jobs, two threads took 40
    times longer over packing a layer for the 4-bit kernel than one.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
