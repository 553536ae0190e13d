"""Checkpoints of several libraries, read back as codes, scales and zeros, and those as plain weights.

Scales, and zeros that lie between codes, are judged as 16 bits hold them, whatever a library writes: so the bytes of
all follow from one rule, and none is charged for float32 that it would not have written for a model in 16 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peers_quantizing import CODES
from safetensors.torch import load_file
from torch import Tensor

from reliabit.quant.grid import dequantize
from reliabit.quant.packed import unpack

SCALE_BITS = 16


@dataclass(frozen=True)
class Grid:
    """A weight as a library has it: `(codes - zero) * scale`, input by input in groups.

    Attributes:
        codes: uint8 `[outputs, inputs]`.
        scale: `[outputs, groups]`.
        zero: `[outputs, groups]`.
        group_of: The group of each input, int64 `[inputs]`, where groups are no neighbours.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    group_of: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """What it stands for, float32 `[outputs, inputs]`."""
        scale, zero = self.scale.half(), self.zero.half()
        if self.group_of is None:
            return dequantize(self.codes, scale, zero)
        return dequantize(self.codes, scale[:, self.group_of], zero[:, self.group_of])

    def stored_bytes(self, bits: int) -> int:
        """Bytes of packed codes, of scales in 16 bits, of zeros in as many as a code where all are codes, else in 16.

        >>> one = torch.ones(1, 1)
        >>> Grid(torch.zeros(1, 64, dtype=torch.uint8), one, one / 2).stored_bytes(4)
        36
        """
        zero_bits = bits if bool((self.zero == self.zero.round()).all()) else SCALE_BITS
        total = self.codes.numel() * bits + self.scale.numel() * (SCALE_BITS + zero_bits)
        if self.group_of is not None:
            total += self.group_of.numel() * 32
        return -(-total // 8)


def compressed_tensors_grid(tensors: Mapping[str, Tensor], *, bits: int, columns: int) -> Grid:
    """A weight of the format `pack-quantized`: `packed`, `scale` and perhaps `zero_point`, itself packed by outputs."""
    codes = unpack(_bytes(tensors["packed"]), bits, columns)
    scale = tensors["scale"].float()
    packed = tensors.get("zero_point")
    if packed is None:
        return Grid(codes, scale, torch.full_like(scale, 2.0 ** (bits - 1)))
    return Grid(codes, scale, unpack(_bytes(packed.T), bits, len(codes)).T.float())


def gptq_grid(tensors: Mapping[str, Tensor], *, bits: int, columns: int, first_version: bool = True) -> Grid:
    """A weight of the format `gptq`: `qweight` packed along inputs, `qzeros` along outputs, `scales`, `g_idx`.

    In the first version a stored zero is one less than it stands for, within the range of a code.
    """
    codes = unpack(_bytes(tensors["qweight"].T), bits, columns)
    zero = unpack(_bytes(tensors["qzeros"]), bits, len(codes)).T
    zero = (zero + 1) % 2**bits if first_version else zero
    scale = tensors["scales"].T.float()
    groups = tensors["g_idx"].long() if "g_idx" in tensors else None
    if groups is not None and torch.equal(groups, torch.arange(columns) // (columns // scale.shape[1])):
        groups = None
    return Grid(codes, scale, zero.float(), groups)


def _bytes(words: Tensor) -> Tensor:
    """Rows of 32-bit words as bytes, the lowest first."""
    return words.contiguous().view(torch.uint8)


def read_checkpoint(folder: Path, *, bits: int) -> tuple[dict[str, Grid], dict[str, Tensor]]:
    """The quantized weights of a folder by the name of their module, and all of its other tensors.

    Raises:
        ValueError: There is a weight in none of the known formats, or none at all.
    """
    plain = folder / CODES
    files = [plain] if plain.is_file() else sorted(folder.glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    grids: dict[str, Grid] = {}
    for module, found in _by_module(tensors).items():
        if "codes" in found:
            grids[module] = Grid(found["codes"], found["scale"], found["zero"])
        elif "weight_packed" in found:
            parts = {name.removeprefix("weight_"): tensor for name, tensor in found.items()}
            grids[module] = compressed_tensors_grid(parts, bits=bits, columns=int(parts["shape"][1]))
        elif "qweight" in found:
            columns = len(found["qweight"]) * 32 // bits
            grids[module] = gptq_grid(found, bits=bits, columns=columns)
    if not grids:
        raise ValueError(f"{folder} has no weights in a format that is read here: {sorted(tensors)[:5]}")
    rest = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in grids}
    return grids, rest


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        found.setdefault(module, {})[leaf] = tensor
    return found
