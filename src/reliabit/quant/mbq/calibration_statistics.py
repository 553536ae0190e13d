"""Calibration statistics as a folder: safetensors, a layer a file, and a JSON record that names their key."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import check_hash, inside, read_sealed, sealed, sha256
from reliabit.quant.mbq.calibration_set import Tokens
from reliabit.quant.mbq.groups import GROUPS
from reliabit.quant.mbq.sensitivity import ratios

RECORD = "statistics.json"
COMMON = "tokens.safetensors"


@dataclass(frozen=True)
class GroupStatistics:
    """What the linear layers of a group are given.

    Attributes:
        magnitude: Mean magnitude of each channel by modality, float32 `[modalities, channels]`; 0 where a modality
            has no tokens.
        sample: The inputs of the tokens that are kept, `[kept, channels]`.
        gram: `X.T @ X / tokens` by modality, float32 `[modalities, channels, channels]`, if it was asked for.
    """

    magnitude: Tensor
    sample: Tensor
    gram: Tensor | None = None


@dataclass(frozen=True)
class LayerStatistics:
    """What the groups of a layer are given.

    Attributes:
        groups: By name of the group.
        contexts: The attention's inputs in the batches that are kept whole, `[sequences, tokens, width]` each.
    """

    groups: dict[str, GroupStatistics]
    contexts: tuple[Tensor, ...]


@dataclass(frozen=True)
class Context:
    """How a batch that is kept whole goes through an attention.

    Attributes:
        attended: Positions that are no padding, bool `[sequences, tokens]`.
        keywords: The attention's arguments besides its hidden states.
        tokens: The numbers of its tokens.
    """

    attended: Tensor
    keywords: dict[str, Any]
    tokens: slice


@dataclass(frozen=True)
class Statistics:
    """Calibration statistics on disk; a layer is read when it is asked for.

    Attributes:
        folder: Where they are.
        key: What they depend on (`statistics_key`).
        path: The dotted path of the decoder layers.
        depth: Their number.
        tokens: The calibration set's tokens.
        gradients: Mean gradient magnitudes, `[layers, 2, tokens]`.
        contexts: The batches that are kept whole.
    """

    folder: Path
    key: str
    path: str
    depth: int
    tokens: Tokens
    gradients: Tensor
    contexts: tuple[Context, ...]

    @cached_property
    def ratios(self) -> Tensor:
        """Sensitivity of image tokens relative to answer tokens, `[layers, 2]`."""
        return ratios(self.gradients, self.tokens)

    def layer(self, index: int) -> LayerStatistics:
        """The statistics of a layer; refused where they are missing, or the file is not the one that was written."""
        tensors = _read(self.folder, _layer_file(index))
        groups = {}
        for group in GROUPS:
            if f"{group.name}.sample" not in tensors:
                raise ReliabitError(
                    f"{self.folder} lacks the statistics of {group.name} in layer {index}; calibrate again"
                )
            groups[group.name] = GroupStatistics(
                magnitude=tensors[f"{group.name}.magnitude"],
                sample=tensors[f"{group.name}.sample"],
                gram=tensors.get(f"{group.name}.gram"),
            )
        return LayerStatistics(groups, tuple(tensors[f"context.{number}"] for number in range(len(self.contexts))))


def _layer_file(index: int) -> str:
    return f"layer-{index:03d}.safetensors"


def write_layer(folder: Path, index: int, statistics: LayerStatistics) -> None:
    """Write the statistics of one layer."""
    tensors: dict[str, Tensor] = {f"context.{number}": states for number, states in enumerate(statistics.contexts)}
    for name, group in statistics.groups.items():
        tensors |= {f"{name}.magnitude": group.magnitude, f"{name}.sample": group.sample}
        if group.gram is not None:
            tensors[f"{name}.gram"] = group.gram
    _write(tensors, folder / _layer_file(index))


def write_record(
    folder: Path,
    *,
    key: str,
    path: str,
    tokens: Tokens,
    gradients: Tensor,
    attended: Sequence[Tensor],
    attention: Sequence[dict[str, Any]],
    extra: dict[str, Any],
) -> None:
    """Write what the layers, which are in the folder already, have in common, and the record, which goes last.

    `attended` and `attention` are of the batches that are kept whole: their positions that are no padding, and the
    arguments that the attention had besides its hidden states.
    """
    tensors = {"kinds": tokens.kinds, "sequences": tokens.sequences, "drawn": tokens.drawn, "gradients": gradients}
    plain: list[dict[str, Any]] = []
    for number, (mask, keywords) in enumerate(zip(attended, attention, strict=True)):
        tensors[f"context.{number}.attended"] = mask
        plain.append({name: value for name, value in keywords.items() if not isinstance(value, Tensor | tuple)})
        for name, value in keywords.items():
            if isinstance(value, Tensor):
                tensors[f"context.{number}.{name}"] = value
            elif isinstance(value, tuple):
                tensors |= {f"context.{number}.{name}.{place}": part for place, part in enumerate(value)}
    _write(tensors, folder / COMMON)
    record = {
        "key": key,
        "path": path,
        "depth": len(gradients),
        "starts": tokens.starts,
        "contexts": tokens.contexts,
        "attention": plain,
        "sha256": {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))},
        **extra,
    }
    (folder / RECORD).write_bytes(sealed(record, indent=2))


def read_statistics(folder: Path, *, key: str) -> Statistics:
    """Open statistics, if they are the ones that are wanted.

    Args:
        folder: Where they are.
        key: The key that the model, the calibration set, the settings and this code have now.

    Raises:
        ReliabitError: There are none, they are of another key, or a file is not the one that was written.
    """
    record = _record(folder)
    if record["key"] != key:
        raise ReliabitError(
            f"{folder} was computed for another model, calibration set, setting or version of Reliabit; calibrate again"
        )
    # Each layer is checked again when it is read; what is damaged is better known before the work begins.
    for name, expected in record["sha256"].items():
        check_hash(inside(folder, name), expected, remedy=_remedy(folder))
    tensors = _read(folder, COMMON)
    tokens = Tokens(
        kinds=tensors["kinds"],
        sequences=tensors["sequences"],
        drawn=tensors["drawn"],
        contexts=tuple(record["contexts"]),
        starts=tuple(record["starts"]),
    )
    contexts = tuple(
        Context(tensors[f"context.{place}.attended"], _keywords(tensors, place, plain), tokens.of_batch(number))
        for place, (number, plain) in enumerate(zip(tokens.contexts, record["attention"], strict=True))
    )
    return Statistics(folder, record["key"], record["path"], record["depth"], tokens, tensors["gradients"], contexts)


def _keywords(tensors: dict[str, Tensor], context: int, plain: dict[str, Any]) -> dict[str, Any]:
    keywords, prefix = dict(plain), f"context.{context}."
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, place = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix) or name == "attended":
            continue
        if place:
            parts.setdefault(name, {})[int(place)] = tensor
        else:
            keywords[name] = tensor
    return keywords | {name: tuple(found[place] for place in sorted(found)) for name, found in parts.items()}


def _record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD).is_file():
        raise ReliabitError(f"{folder} holds no calibration statistics; run task=calibrate")
    return read_sealed(folder / RECORD, remedy=_remedy(folder))


def _read(folder: Path, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    expected = _record(folder)["sha256"].get(name)
    if expected is None or not (folder / name).is_file():
        raise DamagedError(f"{folder} lacks the calibration statistics {name}", remedy=_remedy(folder))
    check_hash(folder / name, expected, remedy=_remedy(folder))
    tensors: dict[str, Tensor] = load_file(folder / name)
    return tensors


def _remedy(folder: Path) -> str:
    return f"delete {folder} and calibrate again"


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    # Views that share memory cannot be saved as they are.
    save_file(
        {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        file,
    )
