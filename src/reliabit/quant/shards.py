"""The weight files of a checkpoint, checked before they are loaded."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePath

from reliabit.errors import ReliabitError

SINGLE = "model.safetensors"
FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""torch's names of the types that safetensors files name."""

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
            # Headers alone; what `framework` says is imported only for a tensor.
            with safe_open(file, framework="np") as shard:
                shard.keys()
        except (OSError, SafetensorError) as error:
            raise ReliabitError(f"{file} is truncated or no safetensors file ({error}); fetch it again") from error


def stored_types(folder: Path) -> set[str]:
    """The types of the floating-point tensors of a checkpoint, by torch's names.

    Raises:
        ReliabitError: It is not whole.
    """
    from safetensors import safe_open

    files, found = weight_files(folder), set[str]()
    check_shards(files)
    for file in files:
        with safe_open(file, framework="np") as shard:
            found |= {shard.get_slice(key).get_dtype() for key in shard.keys()}  # noqa: SIM118 - no mapping
    return {FLOATS[name] for name in found & FLOATS.keys()}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index lists, or the only one where it has none.

    Raises:
        ReliabitError: There is none, or the index cannot be read, lists files that are not there or lie outside the
            folder, or lists others than the loader takes.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise ReliabitError(f"the checkpoint {folder} has no {SINGLE} and no {INDEX}; fetch its weights")
        return [folder / SINGLE]
    listed = _listed(index)
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise ReliabitError(
            f"the checkpoint {folder} lacks {len(missing)} of the {len(listed)} shards that its index lists "
            f"({', '.join(missing)}); fetch them again"
        )
    if (folder / SINGLE).is_file() and SINGLE not in listed:
        # transformers would read that one, and what reads a layer at a time the others.
        raise ReliabitError(f"the checkpoint {folder} has both {SINGLE} and an index of other shards; delete one")
    return [folder / name for name in listed]


def _listed(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReliabitError(f"{index} is no index of shards; fetch it again") from error
    strange = [name for name in names if not isinstance(name, str)]
    if strange or not names:
        raise ReliabitError(f"{index} is no index of shards (it lists {strange or 'none'}); fetch it again")
    outside = sorted(name for name in names if "\0" in name or PurePath(name).name != name)
    if outside:
        raise ReliabitError(
            f"{index} lists the shard {outside[0]!r}, which does not lie in its folder; fetch the checkpoint again"
        )
    return sorted(names)
