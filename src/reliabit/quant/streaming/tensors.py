"""The tensors of a checkpoint folder by the names that the model gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.checkpoint_files import check_shards, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CheckpointTensors:
    """Reads single tensors; none stays in memory here.

    Attributes:
        folder: The checkpoint folder.
        keys: The key in the files of each tensor, by its name in the model. transformers 5 writes some families under
            the prefixes of earlier versions.
        aliases: For tensors that share memory with another one and are not stored, that one's name.
    """

    def __init__(self, folder: Path, model: "PreTrainedModel") -> None:
        """List the tensors of the folder's files; those must be all of the skeleton's, in its shapes."""
        self.folder = folder
        self._file_of = _keys_by_file(folder)
        names = dict(model.state_dict(keep_vars=True))
        self.keys = {name: key for key in self._file_of if (name := model_name(key, names)) is not None}
        self.aliases = _aliases(names, self.keys)
        self._check(names)

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Read tensors into memory of their own."""
        reader = Reader(self)
        return {name: reader.view(name).clone() for name in names}

    def locate(self, name: str) -> tuple[Path, str]:
        """The file and the key of a tensor."""
        key = self.keys[self.aliases.get(name, name)]
        return self._file_of[key], key

    def _check(self, names: dict[str, Tensor]) -> None:
        missing = [name for name in names if name not in self.keys and name not in self.aliases]
        if missing:
            raise ReliabitError(f"{self.folder} lacks {len(missing)} of the model's tensors, {missing[0]} among them")
        stored: dict[str, list[int]] = {}
        # One file at a time: mapping all of a large checkpoint at once is refused where memory is limited.
        for file in sorted(set(self._file_of.values())):
            reader = Reader(self)
            stored |= {name: reader.shape(name) for name, key in self.keys.items() if self._file_of[key] == file}
        for name, shape in stored.items():
            if shape != list(names[name].shape):
                raise ReliabitError(
                    f"{self.folder} stores {name} as {shape}, and the model has {list(names[name].shape)}"
                )


class Reader:
    """Reads tensors from files that stay mapped as long as it is there."""

    def __init__(self, tensors: CheckpointTensors) -> None:
        """Open nothing yet."""
        self._tensors = tensors
        self._open: dict[Path, Any] = {}

    def view(self, name: str) -> Tensor:
        """A tensor that is read from its file where it is touched; it must not outlive the reader."""
        file, key = self._file(name)
        tensor: Tensor = file.get_tensor(key)
        return tensor

    def shape(self, name: str) -> list[int]:
        """A tensor's shape."""
        file, key = self._file(name)
        return list(file.get_slice(key).get_shape())

    def _file(self, name: str) -> tuple[Any, str]:
        from safetensors import safe_open

        path, key = self._tensors.locate(name)
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        return self._open[path], key


def model_name(key: str, names: "dict[str, Tensor]") -> str | None:
    """The model's name for a key of its files, or None if it has no such tensor.

    Example:
        >>> import torch
        >>> names = {"model.language_model.norm.weight": torch.ones(1), "model.visual.merger.bias": torch.ones(1)}
        >>> model_name("model.norm.weight", names), model_name("visual.merger.bias", names)
        ('model.language_model.norm.weight', 'model.visual.merger.bias')
    """
    candidates = (key, f"model.{key}", key.replace("model.", "model.language_model.", 1))
    return next((name for name in candidates if name in names), None)


def _keys_by_file(folder: Path) -> dict[str, Path]:
    from safetensors import safe_open

    files = weight_files(folder)
    check_shards(files)
    found: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            found |= dict.fromkeys(opened.keys(), file)
    return found


def _aliases(names: dict[str, Tensor], stored: dict[str, str]) -> dict[str, str]:
    owners = {id(tensor): name for name, tensor in names.items() if name in stored}
    return {name: owners[id(tensor)] for name, tensor in names.items() if name not in stored and id(tensor) in owners}
