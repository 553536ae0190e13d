"""Where a quantized checkpoint may be written; told without torch, so that a wrong folder is refused at once."""

from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.quant.record import quantized_as


def check_destination(destination: Path, *, source: Path) -> None:
    """Check that a folder may be written, or replaced, by what is made of a checkpoint.

    Args:
        destination: The folder.
        source: The checkpoint that is read meanwhile.

    Raises:
        ReliabitError: It is the source, holds it or lies in it, is a file or a link, or holds something else than a
            quantized checkpoint.
    """
    here, there = destination.resolve(), source.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ReliabitError(f"{destination} would overwrite the checkpoint {source} that it is made of; name another")
    if destination.is_symlink():
        raise ReliabitError(f"{destination} is a link; name the folder that it leads to, {here}")
    if not destination.exists():
        return
    if not destination.is_dir():
        raise ReliabitError(f"{destination} is a file; name a folder")
    found = list(destination.iterdir())
    if found and (any(path.is_dir() for path in found) or quantized_as(destination) is None):
        raise ReliabitError(f"{destination} holds something else than a quantized checkpoint; name another folder")
