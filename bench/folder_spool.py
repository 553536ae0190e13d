"""Hidden states in files, for models whose layers are streamed: in memory they take more than the layers do."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


class FolderSpool(MutableMapping[tuple[int, int], Tensor]):
    """Every layer's inputs by layer and batch, a file each."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that exists and that someone else removes."""
        self.folder = folder

    def __setitem__(self, key: tuple[int, int], hidden: Tensor) -> None:
        save_file({"hidden": hidden.contiguous()}, self._file(key))

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        # A copy of its own: the tensors of a file share its mapping, which then stays in memory.
        return load_file(self._file(key))["hidden"].clone()

    def __delitem__(self, key: tuple[int, int]) -> None:
        self._file(key).unlink()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for file in sorted(self.folder.iterdir()):
            layer, batch = file.stem.split("-")
            yield int(layer), int(batch)

    def __len__(self) -> int:
        return len(list(self.folder.iterdir()))

    def _file(self, key: tuple[int, int]) -> Path:
        return self.folder / f"{key[0]:03d}-{key[1]:05d}.safetensors"
