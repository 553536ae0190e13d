"""The tensors of a checkpoint under GGUF's names and in GGUF's order of rows.

Whatever is done here moves whole rows, so that it holds for packed rows as for plain ones.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from gguf import TensorNameMap
    from numpy.typing import NDArray

_VISION = ("visual.", "model.vision_model.", "model.connector.")
_INNER = ("model.language_model.", "model.text_model.")
_ROTATED = re.compile(r"\.(?P<part>q|k)_proj\.(weight|bias)$")


def canonical(name: str) -> str:
    """A tensor's or module's name without what versions of transformers put differently.

    >>> canonical("model.language_model.layers.0.mlp.up_proj.weight"), canonical("model.visual.merger.ln_q.bias")
    ('model.layers.0.mlp.up_proj.weight', 'visual.merger.ln_q.bias')
    """
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    for inner in _INNER:
        if name.startswith(inner):
            return f"model.{name.removeprefix(inner)}"
    return name


def is_vision(name: str) -> bool:
    """Whether a tensor, by its canonical name, is of what sees the image, the connector included."""
    return name.startswith(_VISION)


def pairs_side_by_side(rows: "NDArray[Any]", *, heads: int) -> "NDArray[Any]":
    """Order the rows of a query or key projection as llama.cpp rotates a Llama's: undoes `rotary_halves`.

    >>> pairs_side_by_side(np.array([[0, 2, 1, 3, 4, 6, 5, 7]]).T, heads=2).T
    array([[0, 1, 2, 3, 4, 5, 6, 7]])
    """
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def decoder_tensors(
    name: str, rows: "NDArray[Any]", names: "TensorNameMap", *, heads: tuple[int, int] | None
) -> Iterator[tuple[str, "NDArray[Any]"]]:
    """What a GGUF file has for a tensor of a decoder.

    Args:
        name: Its canonical name.
        rows: Its rows, packed or plain.
        names: GGUF's names.
        heads: Of queries and of keys where rotary pairs lie side by side; `None` where they lie in halves, as in
            transformers.
    """
    rotated = _ROTATED.search(name)
    if heads is not None and rotated is not None:
        rows = pairs_side_by_side(rows, heads=heads[0] if rotated["part"] == "q" else heads[1])
    yield _named(name, names), rows


def vision_tensors(name: str, rows: "NDArray[Any]", names: "TensorNameMap") -> Iterator[tuple[str, "NDArray[Any]"]]:
    """What a GGUF file has for a tensor of the vision part: fused queries, keys and values are three, frames two."""
    if ".qkv." in name:
        for part, third in zip("qkv", np.split(rows, 3), strict=True):
            yield _named(name.replace("qkv", part), names), third
    elif name.endswith("patch_embed.proj.weight"):
        # A kernel for each of the two frames that a still image is doubled to.
        for frame, suffix in enumerate(("", ".1")):
            yield f"{_named(name, names)}{suffix}", np.ascontiguousarray(rows[:, :, frame])
    else:
        yield _named(name, names), rows


def _named(name: str, names: "TensorNameMap") -> str:
    found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise ReliabitError(
            f"GGUF has no name for the tensor {name}; convert the checkpoint with llama.cpp's own tools"
        )
    return found
