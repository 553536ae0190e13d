"""What the cells of a sweep save by sharing their work: one sweep against its cells, each run alone from nothing.

Run as `python bench/sweep.py` from the repository's root. Every job is a process of its own that finds no data, no
cache and no store; each gets one thread. What counts are CPU seconds, which other work on the machine changes little;
wall clock stands beside them. Writes `bench/results/sweep.json`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "sweep.json"
QUANTIZERS, WIDTHS = ("hqq", "mbq"), (8, 4, 3, 2)
BOUND = 0.6
"""The share of the cells' time that the sweep may take."""


def placed(folder: Path) -> list[str]:
    """Arguments that have a job find and leave everything in a folder, on one thread and without bars."""
    places = {
        "hydra.run.dir": folder / "run",
        "hydra.sweep.dir": folder / "sweep",
        "paths.data": folder / "data",
        "paths.cache": folder / "cache",
        "tracking.uri": f"sqlite:///{folder}/mlflow.db",
        "tracking.artifacts": folder / "artifacts",
    }
    own = ["trainer.threads=1", "trainer.progress_bar=false"]
    return [*(f"{key}={value}" for key, value in places.items()), *own]


def run(folder: Path, *arguments: str) -> dict[str, float]:
    """Run `src/run.py` in a folder that holds nothing yet; what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603 - a fixed program
        [sys.executable, "src/run.py", *arguments, *placed(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(cpu, 1), "wall_seconds": round(time.perf_counter() - start, 1)}


def measure(model: str, confidence: str) -> dict[str, Any]:
    """Run the sweep and its cells."""
    same = [f"model={model}", f"confidence={confidence}"]
    cells = {"none": ["quant=none"]} | {
        f"{quantizer} {width}": [f"quant={quantizer}", f"quant.bits={width}"]
        for quantizer, width in product(QUANTIZERS, WIDTHS)
    }
    with tempfile.TemporaryDirectory() as made:
        widths = ",".join(str(width) for width in WIDTHS)
        sweep = run(Path(made, "sweep"), "-m", f"quant={','.join(QUANTIZERS)}", f"quant.bits={widths}", *same)
        print(json.dumps({"sweep": sweep}), flush=True)
        alone = {}
        for name, overrides in cells.items():
            alone[name] = run(Path(made, name.replace(" ", "-")), *overrides, *same)
            print(json.dumps({name: alone[name]}), flush=True)
    sums = {key: round(sum(cell[key] for cell in alone.values()), 1) for key in sweep}
    return {
        "sweep": sweep,
        "alone": alone,
        "alone_sum": sums,
        "share": {key: round(sweep[key] / sums[key], 3) for key in sweep},
        "bound": BOUND,
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="qwen2_vl_tiny")
    parser.add_argument("--confidence", nargs="+", default=["selector", "maxprob"])
    options = parser.parse_args()
    results = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": 1},
        "versions": {name: version(name) for name in ("torch", "transformers", "lightning", "mlflow")},
        "model": options.model,
        **{f"confidence={name}": measure(options.model, name) for name in options.confidence},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
