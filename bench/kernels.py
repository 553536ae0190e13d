"""Packed weights on this processor: memory with kernels prepared, products beside bfloat16's, the solver beside hqq's.

    python bench/kernels.py                 # all three; adds to bench/results/kernels.json
    python bench/kernels.py --only memory   # or products, solver

Each ratio compares two things that this run measured in turn. On one thread it is of processor seconds, which others on
the machine disturb little; on two of wall-clock seconds, which mean something while two cores are free.
"""

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reliabit.quant import QuantLinear, kernels_of, model_size, quantize_weight
from reliabit.quant.kernels.tiles import tile_type

RESULTS = Path(__file__).resolve().parent / "results" / "kernels.json"
WIDTHS = {"q": (3584, 3584), "k": (3584, 512), "v": (3584, 512), "o": (3584, 3584)}
WIDTHS |= {"gate": (3584, 18944), "up": (3584, 18944), "down": (18944, 3584)}
"""Inputs and outputs of the matrices of a decoder layer of Qwen2-VL-7B."""
BITS, GROUP = (4, 3, 2), 64
PRODUCT, BATCHES = (18944, 3584), (1, 8, 32, 128, 512)
SIZES = (2048, 3584)


def best_of(ways: dict[str, Callable[[], Any]], *, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Milliseconds of each way, the best of several rounds in which all take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = clock()
            way()
            # The first round warms up.
            best[name] = min(best[name], clock() - start) if number else best[name]
    return {name: round(1e3 * seconds, 3) for name, seconds in best.items()}


def own_memory() -> dict[str, int]:
    """Resident bytes of this process, and those that are its own, once the allocator has given back what is free."""
    ctypes.CDLL(None).malloc_trim(0)
    fields = dict.fromkeys(("Rss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = 1024 * int(value.split()[0])
    return {"rss": fields["Rss"], "uss": fields["Private_Clean"] + fields["Private_Dirty"]}


def empty_stack(bits: int, layers: int) -> nn.ModuleDict:
    """Packed layers of full width with codes that stand for random weights."""
    modules, shapes = nn.ModuleDict(), set(WIDTHS.values())
    for inputs, outputs in shapes:
        weight = quantize_weight(torch.randn(outputs, inputs), "rtn", bits, GROUP)
        for number, name in ((n, name) for n in range(layers) for name in WIDTHS if WIDTHS[name] == (inputs, outputs)):
            modules[f"{number}_{name}"] = QuantLinear.from_linear(
                nn.Linear(inputs, outputs, bias=False, device="meta"), weight
            )
    return modules


def memory(layers: int) -> list[dict[str, Any]]:
    """What `memory_of` says of each width, each in a process of its own: freed memory would serve the next."""
    rows = []
    for bits in BITS:
        command = [sys.executable, __file__, "--bits", str(bits), "--layers", str(layers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    return rows


@torch.inference_mode()
def memory_of(bits: int, layers: int) -> dict[str, Any]:
    """Bits a weight by the tensors and by the process, before kernels are prepared and after; the codes got back."""
    torch.set_num_threads(1)
    # What quantizing takes for a while, and what libraries take for good, is not the model's.
    kernels_of(empty_stack(bits, 1), dtype=torch.bfloat16)
    before = own_memory()
    stack = empty_stack(bits, layers)
    weights = sum(layer.rows * layer.columns for layer in stack.values())
    packed = {name: bytes_of(layer) for name, layer in stack.items()}
    size, loaded = model_size(stack), own_memory()
    kernels = sorted(set(kernels_of(stack, dtype=torch.bfloat16).values()))
    after, prepared = model_size(stack), own_memory()
    same = all(bytes_of(layer) == packed[name] for name, layer in stack.items())
    row: dict[str, Any] = {"bits": bits, "weights": weights, "kernels": kernels, "packed_again_is_the_same": same}
    row["packed_bits"] = 8 * size.stored_bytes / weights
    row["tensor_bits"] = 8 * after.resident_bytes / weights
    row["tensors"] = after.resident_bytes / size.stored_bytes
    for kind in ("rss", "uss"):
        row[f"{kind}_bits"] = 8 * (prepared[kind] - before[kind]) / weights
        row[kind] = (prepared[kind] - before[kind]) / size.stored_bytes
        row[f"{kind}_before_kernels"] = (loaded[kind] - before[kind]) / size.stored_bytes
    return row


def bytes_of(layer: nn.Module) -> list[int]:
    """What tells the buffers of a layer from others, without a copy of them."""
    return [hash(value.numpy().tobytes()) for value in layer.state_dict().values()]


def products(threads: int) -> list[dict[str, Any]]:
    """A layer as it multiplies, beside a bfloat16 weight of the same shape."""
    inputs, outputs = PRODUCT
    weight = torch.randn(outputs, inputs) * 0.02
    plain = weight.bfloat16()
    layers = {}
    for bits in BITS:
        linear = nn.Linear(inputs, outputs, bias=False)
        layers[bits] = QuantLinear.from_linear(linear, quantize_weight(weight, "rtn", bits, GROUP))
    rows = []
    for batch in BATCHES:
        some = torch.randn(batch, inputs).bfloat16()
        ways: dict[str, Callable[[], Any]] = {"bf16": partial(nn.functional.linear, some, plain)}
        ways |= {f"{bits} bits": partial(layer, some) for bits, layer in layers.items()}
        clock = time.thread_time if threads == 1 else time.perf_counter
        found = best_of(ways, rounds=12 if batch < 100 else 3, clock=clock)
        faster = {name: round(found["bf16"] / value, 3) for name, value in found.items() if name != "bf16"}
        rows.append({"batch": batch, "threads": threads, "milliseconds": found, "times_bf16": faster})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def solvers(threads: int) -> list[dict[str, Any]]:
    """HQQ at 4 bits beside the library."""
    rows = []
    for size in SIZES:
        weight = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) * 0.02
        errors: dict[str, float] = {}

        def solve(solver: str, weight: torch.Tensor = weight, errors: dict[str, float] = errors) -> None:
            found = quantize_weight(weight, "hqq", 4, GROUP, solver=solver).dequantize()
            errors[solver] = float((found - weight).abs().mean())

        clock = time.thread_time if threads == 1 else time.perf_counter
        found = best_of({"chunked": partial(solve, "chunked")}, rounds=3, clock=clock)
        found |= best_of({"library": partial(solve, "library")}, rounds=1, clock=clock)
        row: dict[str, Any] = {"size": size, "threads": threads, "milliseconds": found}
        row["times_library"] = round(found["library"] / found["chunked"], 2)
        row["error"] = errors["chunked"] / errors["library"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Measure, and add to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=("memory", "products", "solver"))
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--bits", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.bits is not None:
        print(json.dumps(memory_of(options.bits, options.layers)))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    capabilities = torch.cpu.get_capabilities()
    found["machine"] = {
        "cpu": capabilities.get("cpu_name", platform.processor()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "tiles": str(tile_type()),
    }
    with torch.inference_mode():
        if options.only in (None, "memory"):
            found["memory"] = memory(options.layers)
        for threads in options.threads:
            torch.set_num_threads(threads)
            load = round(os.getloadavg()[0], 1)
            if options.only in (None, "products"):
                found[f"products, {threads}"] = {"load": load, "rows": products(threads)}
            if options.only in (None, "solver"):
                found[f"solver, {threads}"] = {"load": load, "rows": solvers(threads)}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
