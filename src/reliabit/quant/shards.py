"""The weight files of a checkpoint, checked before they are loaded."""

import json
from collections.abc import Sequence
from pathlib import Path

from reliabit.errors import ReliabitError

INDEX = "model.safetensors.index.json"


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


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index lists, or all there are where it has none.

    Raises:
        ReliabitError: The index cannot be read, or lists files that are not there.
    """
    index = folder / INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        listed = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReliabitError(f"{index} is no index of shards; fetch it again") from error
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise ReliabitError(
            f"the checkpoint {folder} lacks {len(missing)} of the {len(listed)} shards that its index lists "
            f"({', '.join(missing)}); fetch them again"
        )
    return [folder / name for name in listed]
