"""A checkpoint's tensors in shards of bounded size, with the index that readers look for."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reliabit.files import replacing
from reliabit.quant.shards import INDEX

SINGLE = "model.safetensors"
SHARD_BYTES = 2**26
"""Bytes that are gathered before a shard is written, unless what comes at once is larger."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True)
class Shard:
    """A shard that is written.

    Attributes:
        file: Where it lies.
        keys: The keys of its tensors.
        tensor_bytes: What they take.
        sha256: The file's SHA-256, in hexadecimal.
    """

    file: Path
    keys: tuple[str, ...]
    tensor_bytes: int
    sha256: str


def save_shard(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file whole or not at all.

    Args:
        tensors: By key; no two may share memory.
        file: Where to.

    Raises:
        OSError: The disk refuses; safetensors itself would hide the reason in an exception of its own.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with replacing(file) as unfinished:
            save_file(dict(tensors), unfinished, metadata={"format": "pt"})
    except SafetensorError as error:
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found.group(1))
        raise OSError(number, os.strerror(number), str(file)) from error


def assemble(shards: Sequence[Shard], folder: Path) -> dict[str, str]:
    """Give shards their final names in a folder, and write the index where there are several.

    They stay where they were as well; a file system with hard links holds them once.

    Args:
        shards: In the order of their numbers.
        folder: An empty folder on the same disk.

    Returns:
        The SHA-256 of each shard, by its final name.
    """
    count = len(shards)
    names = [SINGLE] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    for shard, name in zip(shards, names, strict=True):
        _link(shard.file, folder / name)
    if count > 1:
        files = {key: name for shard, name in zip(shards, names, strict=True) for key in shard.keys}
        total = sum(shard.tensor_bytes for shard in shards)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return {name: shard.sha256 for shard, name in zip(shards, names, strict=True)}


def _link(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:
        # No hard links there.
        shutil.copy2(file, name)
