"""Solver speed and error against the library `hqq`; `bench/kernels.py` measures what comes after.

Run as `python bench/quantize.py` from the repository's root, with the package installed or on `PYTHONPATH`. It writes
`bench/results/quantize.json` and `docs/quantization.md`. Each ratio compares two things timed one after the other in
this run; absolute times on a shared machine may be several times those of a quiet one.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliabit.quant import QuantizedWeight, quantize_weight
from reliabit.threads import one_thread

ROOT = Path(__file__).resolve().parents[1]
BITS = (2, 3, 4, 8)
GROUP_SIZE = 64
SOLVER_SHAPE = (3584, 3584)
METHODS: dict[str, dict[str, Any]] = {
    "rtn": {"method": "rtn"},
    "hqq": {"method": "hqq"},
    "hqq_plus": {"method": "hqq_plus"},
    "symmetric": {"method": "hqq_plus", "zero": "symmetric"},
    "integer zero": {"method": "hqq_plus", "zero": "integer"},
}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `work` takes, and what it gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def machine() -> dict[str, Any]:
    """What the numbers were measured on, without anything that names the host."""
    cpu_info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "hqq")},
    }


def errors(weight: Tensor, decoded: Tensor) -> dict[str, float]:
    """Mean absolute and root mean square error, relative to those of the weights themselves."""
    difference = decoded - weight
    return {
        "mean_absolute": float(difference.abs().mean() / weight.abs().mean()),
        "root_mean_square": float(difference.norm() / weight.norm()),
    }


def solver_rows(shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Each method at each width against the library, on one thread and on all."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    rows = []
    for bits in BITS:
        library: dict[str, Any] = {"method": "hqq", "solver": "library"}
        row: dict[str, Any] = {"bits": bits, "library": timed_solver(weight, bits, library)}
        row["methods"] = {name: timed_solver(weight, bits, options) for name, options in METHODS.items()}
        row["speedup"] = row["library"]["seconds"] / row["methods"]["hqq"]["seconds"]
        row["speedup_one_thread"] = row["library"]["seconds_one_thread"] / row["methods"]["hqq"]["seconds_one_thread"]
        row["error_ratio"] = row["methods"]["hqq"]["mean_absolute"] / row["library"]["mean_absolute"]
        rows.append(row)
    return rows


def timed_solver(weight: Tensor, bits: int, options: dict[str, Any]) -> dict[str, float]:
    """Time one method with all threads and with one, and measure its error."""

    def solve() -> QuantizedWeight:
        return quantize_weight(weight, bits=bits, group_size=GROUP_SIZE, **options)

    if options.get("solver") != "library":
        solve()
    all_threads, quantized = timed(solve)
    with one_thread():
        single, _ = timed(solve)
    times = {"seconds": all_threads, "seconds_one_thread": single}
    return {**times, **errors(weight, quantized.dequantize())}


def markdown(results: dict[str, Any]) -> str:
    """The results as a page of the documentation."""
    about = results["machine"]
    lines = [
        "# Quantization, measured",
        "",
        f"Written by `bench/quantize.py` on {about['cpu']} ({about['capability']}), {about['cores']} cores, "
        f"{about['threads']} threads, load {about['load_before']} before the run; Python {about['python']}, "
        f"torch {about['torch']}, transformers {about['transformers']}, hqq {about['hqq']}. The machine was shared: "
        "ratios count, absolute times less.",
        *solver_section(results["solver"], about["threads"]),
    ]
    return "\n".join(lines) + "\n"


def solver_section(rows: list[dict[str, Any]], threads: int) -> list[str]:
    """Times and errors of the solvers."""
    names = ["library", *METHODS]
    times, squares = [], []
    for row in rows:
        found = {"library": row["library"], **row["methods"]}
        seconds = [f"{found[name]['seconds_one_thread']:.2f}" for name in ("library", "hqq", "hqq_plus")]
        ratios = [f"{row['speedup_one_thread']:.1f}", f"{row['speedup']:.1f}", f"{row['error_ratio']:.4f}"]
        times.append([str(row["bits"]), *seconds, *ratios])
        squares.append([str(row["bits"]), *(f"{found[name]['root_mean_square']:.4f}" for name in names)])
    return [
        "",
        f"## Solvers, {SOLVER_SHAPE[0]}x{SOLVER_SHAPE[1]} normal weights, groups of {GROUP_SIZE}",
        "",
        "Times in seconds on one thread; `speed-up` is the library's time over that of `hqq` here, on one thread and "
        f"on all {threads}; `error` is the mean absolute weight error of `hqq` here over the library's.",
        "",
        *table(["bits", "library", "hqq", "hqq_plus", "speed-up, 1 thread", "speed-up, all", "error"], times),
        "",
        "Root mean square error of the weights, relative to their own; the last two are `hqq_plus` under a constraint:",
        "",
        *table(["bits", *names], squares),
    ]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--print", action="store_true", help="write nothing")
    only_print = parser.parse_args().print
    torch.manual_seed(0)
    with torch.no_grad():
        results = {"machine": machine(), "group_size": GROUP_SIZE, "solver": solver_rows(SOLVER_SHAPE)}
    if only_print:
        print(json.dumps(results, indent=2))
        return
    (ROOT / "bench" / "results").mkdir(parents=True, exist_ok=True)
    (ROOT / "bench" / "results" / "quantize.json").write_text(json.dumps(results, indent=2) + "\n")
    page = ROOT / "docs" / "quantization.md"
    # What is not measured is written by hand, and stays.
    _, heading, guide = page.read_text().partition("\n## Adding a quantizer\n")
    page.write_text(markdown(results) + heading + guide)
    print(markdown(results))


if __name__ == "__main__":
    main()
