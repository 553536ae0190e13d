"""Shards that are written as the work goes on, each with a record, so that a killed process loses little.

The unit of work is a decoder layer, a module outside the layers, or a tensor that stays as it was. A shard holds whole
units. Its record is written last and names its hash: a shard without one, or with another hash, is made again.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliabit.errors import DamagedError
from reliabit.files import read_sealed, replacing, sealed, sha256
from reliabit.quant.checkpoint_files import INDEX, SINGLE
from reliabit.quant.convert import ConvertedModule
from reliabit.quant.grid import Layout
from reliabit.quant.mbq.search import GroupScale
from reliabit.quant.plan import Scheme

SHARD_BYTES = 2**26
"""Bytes that are gathered before a shard is written, unless what comes at once is larger."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_RECORDS = "part-*.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenShard:
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


@dataclass(frozen=True)
class Finished:
    """What became of a unit.

    Attributes:
        unit: Its name.
        modules: What was quantized in it.
        layouts: How each of those is stored.
        scales: What was scaled before.
    """

    unit: str
    modules: tuple[ConvertedModule, ...] = ()
    layouts: tuple[Layout, ...] = ()
    scales: tuple[GroupScale, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "unit": self.unit,
            "modules": [asdict(module) for module in self.modules],
            "layouts": [asdict(layout) for layout in self.layouts],
            "scales": [vars(found) | {"scale": found.scale.tolist()} for found in self.scales],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Finished":
        """Read it back."""
        return cls(
            record["unit"],
            tuple(ConvertedModule(**{**found, "scheme": Scheme(**found["scheme"])}) for found in record["modules"]),
            tuple(Layout(**found) for found in record["layouts"]),
            tuple(GroupScale(**{**found, "scale": torch.tensor(found["scale"])}) for found in record["scales"]),
        )


class ShardWriter:
    """Gathers tensors by unit, and writes shards whose bounds do not depend on where the work was interrupted.

    Attributes:
        done: The units that are written, by name.
    """

    def __init__(self, folder: Path, units: Sequence[str], *, shard_bytes: int) -> None:
        """Take over what is whole in a folder, and remove what is not; units are written in their order."""
        self.folder, self.shard_bytes = folder, shard_bytes
        self._order = {unit: number for number, unit in enumerate(units)}
        self._waiting: list[tuple[Finished, dict[str, Tensor]]] = []
        self._shards: dict[int, WrittenShard] = {}
        self.done: dict[str, Finished] = {}
        for record in sorted(folder.glob(_RECORDS)):
            self._take_over(record)
        for leftover in {*folder.glob("*part-*")} - {*self._kept_files()}:
            leftover.unlink()

    def add(self, finished: Finished, tensors: Mapping[str, Tensor]) -> None:
        """Take a unit in, and write a shard if enough has come together."""
        own = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
        self._waiting.append((finished, own))
        if sum(tensor.nbytes for _, tensors in self._waiting for tensor in tensors.values()) >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting; called too where the next unit is written already."""
        if not self._waiting:
            return
        tensors = {key: tensor for _, own in self._waiting for key, tensor in own.items()}
        finished = [found for found, _ in self._waiting]
        number = self._order[finished[0].unit]
        file = self.folder / f"part-{number:05d}.safetensors"
        save_shard(tensors, file)
        shard = WrittenShard(file, tuple(tensors), sum(tensor.nbytes for tensor in tensors.values()), sha256(file))
        record = {
            "keys": shard.keys,
            "tensor_bytes": shard.tensor_bytes,
            "sha256": shard.sha256,
            "finished": [found.to_record() for found in finished],
        }
        with replacing(file.with_suffix(".json")) as unfinished:
            unfinished.write_bytes(sealed(record))
        self._keep(number, shard, finished)
        self._waiting = []

    def shards(self) -> list[WrittenShard]:
        """All shards, in order, with what was waiting."""
        self.flush()
        return [self._shards[number] for number in sorted(self._shards)]

    def finished(self) -> list[Finished]:
        """What became of all units, in order."""
        return sorted(self.done.values(), key=lambda found: self._order[found.unit])

    def tensors(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Read tensors of one unit that is written, by their keys."""
        from safetensors import safe_open

        shard = next(shard for shard in self._shards.values() if keys[0] in shard.keys)
        with safe_open(shard.file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in keys}

    def _take_over(self, record: Path) -> None:
        file = record.with_suffix(".safetensors")
        try:
            written = read_sealed(record, remedy="quantize again")
            finished = [Finished.from_record(found) for found in written["finished"]]
            shard = WrittenShard(file, tuple(written["keys"]), written["tensor_bytes"], written["sha256"])
            number = self._order[finished[0].unit]
            whole = sha256(file) == shard.sha256
        except (OSError, DamagedError):
            whole = False
        if whole:
            self._keep(number, shard, finished)
        else:
            _LOG.warning("%s is not what was written; its layers are quantized again", file)

    def _keep(self, number: int, shard: WrittenShard, finished: Sequence[Finished]) -> None:
        self._shards[number] = shard
        self.done |= {found.unit: found for found in finished}

    def _kept_files(self) -> Iterator[Path]:
        for shard in self._shards.values():
            yield shard.file
            yield shard.file.with_suffix(".json")


def save_shard(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file, of tensors that share no memory, whole or not at all."""
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


def assemble(shards: Sequence[WrittenShard], folder: Path) -> dict[str, str]:
    """Give shards their final names in an empty folder on the same disk, and write the index where there are several.

    They stay where they were as well; a file system with hard links holds them once. Gives each one's SHA-256 by its
    name.
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
