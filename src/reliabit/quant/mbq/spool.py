"""Where hidden states wait between the walk forwards and the walk backwards."""

from pathlib import Path
from typing import Protocol

from torch import Tensor


class Spool(Protocol):
    """Every layer's inputs, by layer and batch."""

    def put(self, layer: int, batch: int, hidden: Tensor) -> None:
        """Keep a layer's inputs."""
        ...

    def get(self, layer: int, batch: int) -> Tensor:
        """Give them back."""
        ...


class MemorySpool:
    """Hidden states in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[tuple[int, int], Tensor] = {}

    def put(self, layer: int, batch: int, hidden: Tensor) -> None:
        self._kept[layer, batch] = hidden

    def get(self, layer: int, batch: int) -> Tensor:
        return self._kept.pop((layer, batch))


class FolderSpool:
    """Hidden states in files, one a layer and batch, for models whose layers are streamed."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that exists and that someone else removes."""
        self.folder = folder

    def put(self, layer: int, batch: int, hidden: Tensor) -> None:
        from safetensors.torch import save_file

        save_file({"hidden": hidden.contiguous()}, self._file(layer, batch))

    def get(self, layer: int, batch: int) -> Tensor:
        from safetensors.torch import load_file

        file = self._file(layer, batch)
        # A copy of its own: the tensors of a file share its mapping, which then stays in memory.
        hidden = load_file(file)["hidden"].clone()
        file.unlink()
        return hidden

    def _file(self, layer: int, batch: int) -> Path:
        return self.folder / f"{layer:03d}-{batch:05d}.safetensors"
