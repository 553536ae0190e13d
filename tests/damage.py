"""What the tests of damaged files share: one bit of a file turned, at places that a seed chooses."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def places_in(files: Sequence[Path], *, count: int, seed: int = 0) -> list[tuple[Path, int]]:
    """Bits of some files, all bits alike; the files and the numbers of the bits in them."""
    rng = random.Random(seed)
    sizes = [8 * path.stat().st_size for path in files]
    return [(path, rng.randrange(8 * path.stat().st_size)) for path in rng.choices(files, weights=sizes, k=count)]


def turn(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@contextmanager
def turned(path: Path, bit: int) -> Iterator[None]:
    """The file with one bit turned, for as long as a block runs."""
    before = path.read_bytes()
    turn(path, bit)
    try:
        yield
    finally:
        path.write_bytes(before)
