"""Which engine loads which quantized weight, read in the engines' own sources; without torch.

`READERS` is all that is known here. `task=quantize` refuses and warns by it, and the table of docs/exports.md is
written from it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reliabit.errors import ReliabitError
from reliabit.quant.record import ZeroKind

Format = Literal["compressed_tensors", "gguf"]

ANY = "any"
"""The device of engines that load the same everywhere."""


@dataclass(frozen=True)
class Grid:
    """How a weight was quantized, as far as it decides who loads it.

    Attributes:
        bits: Bits of a code.
        zero: Where the zero may lie.
        group_size: Inputs that share a scale; `None` for whole rows.
    """

    bits: int
    zero: ZeroKind
    group_size: int | None


@dataclass(frozen=True)
class Reader:
    """A kernel of an engine, and the weights that it takes.

    Attributes:
        format: What it is exported as.
        engine: The engine, with the version whose source was read.
        device: The device.
        kernel: What multiplies by the weights.
        grids: The widths that it takes, by kind of zero.
        groups: The group sizes that it takes, `None` among them for whole rows; empty where it takes any.
        needs: What it takes beside the engine; empty for nothing.
        limits: What else it asks for, for the table.
    """

    format: Format
    engine: str
    device: str
    kernel: str
    grids: Mapping[ZeroKind, tuple[int, ...]] = field(hash=False)
    groups: tuple[int | None, ...] = ()
    needs: str = ""
    limits: str = ""

    def takes(self, grid: Grid) -> bool:
        """Whether it takes a weight."""
        return grid.bits in self.grids.get(grid.zero, ()) and (not self.groups or grid.group_size in self.groups)


VLLM = "vLLM 0.32.0"
NVIDIA, AMD, INTEL, CPU = "NVIDIA GPU", "AMD GPU", "Intel GPU", "CPU"

TRANSFORMERS = Reader(
    "compressed_tensors",
    "transformers 5.23.0",
    ANY,
    "compressed-tensors 0.20.0",
    {"symmetric": (2, 3, 4, 8), "integer": (4, 8)},
    limits="whole zeros are dequantized when they are loaded",
)

READERS: tuple[Reader, ...] = (
    TRANSFORMERS,
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Marlin",
        {"symmetric": (4, 8), "integer": (4,)},
        (None, 32, 64, 128),
        limits="compute capability 7.5 or later",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Machete",
        {"symmetric": (4, 8), "integer": (4, 8)},
        (None, 64, 128),
        needs="compute capability 9.0 (Hopper)",
        limits="inputs in multiples of 64, outputs of 128",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Triton",
        {"symmetric": (4,), "integer": (4,)},
        (None, 32, 64, 128, 256),
        limits="outputs in multiples of 8; float16 or bfloat16",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Exllama",
        {"symmetric": (4, 8)},
        (16, 32, 64, 128, 256),
        needs="--dtype float16",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Conch",
        {"symmetric": (4, 8), "integer": (4, 8)},
        (None, 128),
        needs="the package conch-triton-kernels",
        limits="compute capability 8.0 or later",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        NVIDIA,
        "Humming",
        {"symmetric": (2, 3, 4, 5, 6, 7, 8), "integer": (2, 3, 4, 5, 6, 7, 8)},
        needs="the package humming",
        limits="compute capability 7.5 or later",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        AMD,
        "Triton",
        {"symmetric": (4,), "integer": (4,)},
        (None, 32, 64, 128, 256),
        limits="outputs in multiples of 8; float16 or bfloat16",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        AMD,
        "Exllama",
        {"symmetric": (4, 8)},
        (16, 32, 64, 128, 256),
        needs="--dtype float16",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        AMD,
        "Conch",
        {"symmetric": (4, 8), "integer": (4, 8)},
        (None, 128),
        needs="the package conch-triton-kernels",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        INTEL,
        "XPUwNa16",
        {"symmetric": (4,), "integer": (4,)},
        (None, 32, 64, 128, 256),
        limits="inputs in multiples of 32",
    ),
    Reader(
        "compressed_tensors",
        VLLM,
        CPU,
        "CPUWNA16",
        {"symmetric": (4,), "integer": (4,)},
        limits="inputs and outputs in multiples of 32; bfloat16; a processor with AVX-512",
    ),
    Reader(
        "gguf",
        "llama.cpp 11434",
        ANY,
        "Q4_0, Q8_0",
        {"symmetric": (4, 8)},
        (32,),
        limits="float16 scales; inputs are rounded to 8 bits before they are multiplied",
    ),
)
"""In the order in which the engine tries them."""


_WIDELY = Grid(4, "symmetric", 64)
"""What all devices load."""

_GROUPS = (None, 32, 64, 128)
"""Groups that they load with it."""


def readers_of(grids: Iterable[Grid], *, exported: Format) -> list[Reader]:
    """Those that load a checkpoint, all of its weights.

    Example:
        >>> [reader.kernel for reader in readers_of([Grid(8, "integer", 64)], exported="compressed_tensors")]
        ['compressed-tensors 0.20.0', 'Machete', 'Humming']
    """
    found = list(grids)
    return [reader for reader in READERS if reader.format == exported and all(map(reader.takes, found))]


def check_loads(grids: Sequence[Grid], *, exported: Format) -> str:
    """Refuse what no engine loads, and say where what only some load does not.

    Args:
        grids: Those of all quantized weights.
        exported: What they are exported as.

    Returns:
        A sentence that warns, or nothing.

    Raises:
        ReliabitError: No engine loads one of them.

    Example:
        >>> check_loads([Grid(4, "integer", 64)], exported="compressed_tensors")
        ''
        >>> check_loads([Grid(5, "symmetric", 64)], exported="gguf")
        Traceback (most recent call last):
        reliabit.errors.ReliabitError: no engine loads symmetric grids of 5 bits in groups of 64 as gguf; choose ...
    """
    for grid in grids:
        if not readers_of([grid], exported=exported):
            raise ReliabitError(
                f"no engine loads {_told(grid)} as {exported}; choose {_advised(grid, exported=exported)}"
            )
    served = [reader for reader in READERS if reader.format == exported and reader.device != ANY]
    loading = {reader.device: list[Reader]() for reader in served}
    for reader in readers_of(grids, exported=exported):
        if reader in served:
            loading[reader.device].append(reader)
    plain = [device for device, found in loading.items() if any(not reader.needs for reader in found)]
    if len(plain) == len(loading):
        return ""
    extra = {device: " or ".join(reader.needs for reader in found) for device, found in loading.items()}
    places = [
        f"{device}s" if device in plain else f"{device}s with {needs}"
        for device, needs in extra.items()
        if needs or device in plain
    ]
    never = [f"{device}s" for device, found in loading.items() if not found]
    hardest = min(grids, key=lambda grid: sum(reader.takes(grid) for reader in served))
    return (
        f"{VLLM} loads {_told(hardest)} on {', '.join(places) or 'no device'}"
        f"{', and not on ' + ' or '.join(never) if never else ''}; for all of them choose "
        f"{_advised(hardest, exported=exported)}"
    )


def table() -> str:
    """All readers as the table of docs/exports.md."""
    head = ["format", "engine", "device", "kernel", "symmetric", "whole zeros", "groups", "needs", "limits"]
    rows = [
        [
            f"`{reader.format}`",
            reader.engine,
            reader.device,
            reader.kernel,
            _listed(reader.grids.get("symmetric", ())),
            _listed(reader.grids.get("integer", ())),
            ", ".join("row" if size is None else str(size) for size in reader.groups) or "any",
            reader.needs,
            reader.limits,
        ]
        for reader in READERS
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _listed(bits: Sequence[int]) -> str:
    return ", ".join(map(str, bits)) or "none"


def _told(grid: Grid) -> str:
    kind = {"symmetric": "symmetric grids", "integer": "whole zeros", "float": "float zeros"}[grid.zero]
    groups = "whole rows" if grid.group_size is None else f"groups of {grid.group_size}"
    return f"{kind} of {grid.bits} bits in {groups}"


def _advised(grid: Grid, *, exported: Format) -> str:
    """The settings nearest to a grid that load wherever the format does."""
    if exported == "gguf":
        return "quant.bits=4 or quant.bits=8"
    width = "" if grid.bits == _WIDELY.bits else f"quant.bits={_WIDELY.bits}"
    groups = "" if grid.group_size in _GROUPS else f"quant.group_size={_WIDELY.group_size}"
    return " ".join(filter(None, (width, groups))) or "quant.zero=symmetric"
