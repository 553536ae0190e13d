"""Writing a checkpoint's tensors as they come, in shards of bounded size, with the index that readers look for."""

import json
from pathlib import Path

from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 2**26
"""Bytes that are gathered before a shard is written, unless a single tensor is larger."""


class ShardWriter:
    """Gathers tensors and writes them; `close` gives the shards their final names."""

    def __init__(self, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
        """Write into a folder that exists."""
        self.folder, self.shard_bytes = folder, shard_bytes
        self._waiting: dict[str, Tensor] = {}
        self._shards: list[list[str]] = []
        self._total = 0

    def add(self, key: str, tensor: Tensor) -> None:
        """Take a tensor in, and write a shard if enough has come together."""
        self._waiting[key] = tensor.detach().contiguous()
        self._total += tensor.nbytes
        if sum(waiting.nbytes for waiting in self._waiting.values()) >= self.shard_bytes:
            self._flush()

    def close(self) -> None:
        """Write what is left, name the shards and, where there are several, write the index."""
        self._flush()
        count = len(self._shards)
        if count == 1:
            self._file(1).rename(self.folder / SINGLE)
            return
        names: dict[str, str] = {}
        for number, keys in enumerate(self._shards, 1):
            name = f"model-{number:05d}-of-{count:05d}.safetensors"
            self._file(number).rename(self.folder / name)
            names |= dict.fromkeys(keys, name)
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(names.items()))}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _flush(self) -> None:
        from safetensors.torch import save_file

        if self._waiting:
            self._shards.append(list(self._waiting))
            save_file(self._waiting, self._file(len(self._shards)), metadata={"format": "pt"})
            self._waiting = {}

    def _file(self, number: int) -> Path:
        return self.folder / f".shard-{number:05d}"
