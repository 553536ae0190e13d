"""Checks the files of a checkpoint before they are loaded."""

from collections.abc import Sequence
from pathlib import Path

from reliabit.errors import ReliabitError


def check_shards(files: Sequence[str | Path]) -> None:
    """Refuse a safetensors file that is not whole.

    Args:
        files: The checkpoint's files.

    Raises:
        ReliabitError: A file that is missing, truncated or no safetensors file; it is named.
    """
    from safetensors import SafetensorError, safe_open

    for file in map(Path, files):
        try:
            with safe_open(file, framework="pt") as shard:
                shard.keys()
        except (OSError, SafetensorError) as error:
            raise ReliabitError(f"{file} is truncated or no safetensors file ({error}); fetch it again") from error
