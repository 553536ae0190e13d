"""The learned part: what training adds to the pretrained parts, kept in one small file, and how it is applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import MANIFEST, check_manifest, replacing, write_manifest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

FILE = "learned.safetensors"
RESTORE = "restore the folder with git checkout, or train the part with task=pretrain"

CONNECTOR = "model.connector.modality_projection.proj.weight"
POST_NORM = "model.vision_model.post_layernorm"

DOWN, UP = "lora_A.weight", "lora_B.weight"
"""The two factors of an adapter, `[rank, inputs]` and `[outputs, rank]`, named as PEFT does."""

SCALE = 2.0
"""What an adapter's product is multiplied by."""


@dataclass(frozen=True)
class Learned:
    """What training adds.

    Attributes:
        tensors: Whole tensors by their names in the model, and of each adapted module `<module>.lora_A.weight` and
            `<module>.lora_B.weight`; NumPy arrays of float16 or float32.
    """

    tensors: "Mapping[str, NDArray[np.floating[Any]]]"

    def check(self, shapes: "Mapping[str, tuple[int, ...]]") -> None:
        """Check that every tensor fits a model, and that none is missing that no pretrained part has.

        Args:
            shapes: Of all the model's weights, by name.

        Raises:
            ReliabitError: One does not.
        """
        missing = [name for name in (CONNECTOR, f"{POST_NORM}.weight", f"{POST_NORM}.bias") if name not in self.tensors]
        if missing:
            raise ReliabitError(f"the learned part lacks {missing[0]}; {RESTORE}")
        for name, tensor in self.tensors.items():
            if tensor.shape != self._expected(name, shapes):
                raise ReliabitError(f"the learned part's {name} {list(tensor.shape)} fits no weight; {RESTORE}")

    def _expected(self, name: str, shapes: "Mapping[str, tuple[int, ...]]") -> tuple[int, ...] | None:
        """What shape a tensor of the learned part has to have: a factor's rank is its partner's."""
        for ending, other in ((DOWN, UP), (UP, DOWN)):
            if name.endswith(ending):
                module = name.removesuffix(ending)
                whole, partner = shapes.get(f"{module}weight"), self.tensors.get(module + other)
                if whole is None or partner is None or partner.ndim != 2:
                    return None
                return (partner.shape[1], whole[1]) if ending == DOWN else (whole[0], partner.shape[0])
        return shapes.get(name)

    def applied(self, name: str, weight: "NDArray[np.floating[Any]]") -> "NDArray[np.floating[Any]]":
        """What becomes of a pretrained weight: it is replaced, adapted, or left as it is."""
        if name in self.tensors:
            return self.tensors[name]
        module = name.removesuffix("weight")
        if module + DOWN not in self.tensors:
            return weight
        return fold(weight, down=self.tensors[module + DOWN], up=self.tensors[module + UP])


def fold(
    weight: "NDArray[np.floating[Any]]", *, down: "NDArray[np.floating[Any]]", up: "NDArray[np.floating[Any]]"
) -> "NDArray[np.float64]":
    """Fold an adapter into the weight that it was trained beside: `weight + SCALE * up @ down`.

    The product is written as sums of products of single numbers in float64: matrix multiplications of libraries sum in
    an order that depends on the processor, and the folded weights shall have the same bytes everywhere.

    Args:
        weight: `[outputs, inputs]`.
        down: `[rank, inputs]`.
        up: `[outputs, rank]`.

    Example:
        >>> import numpy as np
        >>> fold(np.zeros((2, 2)), down=np.ones((1, 2)), up=np.array([[1.0], [3.0]]))
        array([[2., 2.],
               [6., 6.]])
    """
    import numpy as np

    folded: NDArray[np.float64] = weight.astype(np.float64)
    product = np.empty_like(folded)
    for row, column in zip(down.astype(np.float64), SCALE * up.astype(np.float64).T, strict=True):
        np.multiply(column[:, None], row[None, :], out=product)
        folded += product
    return folded


def save_learned(tensors: "Mapping[str, torch.Tensor]", folder: Path, **facts: str) -> Learned:
    """Write a learned part into a folder, with a manifest: matrices as float16, all else as float32.

    Args:
        tensors: By name, see `Learned`.
        folder: Where `learned.safetensors` and the manifest appear, beside whatever else is there.
        facts: What the manifest shall say beside the digest.

    Returns:
        The tensors as they are stored.

    Raises:
        ReliabitError: One of them is not finite, or too large for its type.
    """
    import numpy as np
    from safetensors.numpy import save_file

    stored = {}
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().float().numpy()
        with np.errstate(over="ignore"):
            stored[name] = np.ascontiguousarray(values.astype(np.float16 if values.ndim == 2 else np.float32))
        if not np.isfinite(stored[name]).all():
            raise ReliabitError(f"the learned {name} holds numbers that {stored[name].dtype} does not; train it anew")
    with replacing(folder / FILE) as unfinished:
        save_file(stored, unfinished)
    write_manifest(folder, [folder / FILE], **facts)
    return Learned(stored)


def check_learned(folder: Path) -> dict[str, Any]:
    """Check that a folder holds a learned part as it was written, and return its manifest.

    Raises:
        ReliabitError: It is missing.
        DamagedError: A file is not the one that was written.
    """
    for name in (FILE, MANIFEST):
        if not (folder / name).is_file():
            raise ReliabitError(f"the learned part {folder / name} is missing; {RESTORE}")
    return check_manifest(folder, remedy=RESTORE)


def load_learned(folder: Path) -> Learned:
    """Read a learned part.

    Raises:
        ReliabitError: It is missing; see `check_learned`.
        DamagedError: It cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_learned(folder)
    try:
        return Learned(load_file(folder / FILE))
    except SafetensorError as error:
        raise DamagedError(f"{folder / FILE} cannot be read ({error})", remedy=RESTORE) from error
