"""What a promotion over a sweep costs: `reliabit promote --dry-run` of this checkout against that of another one.

Run from the repository's root, with a checkout of what to compare with, once each of the two has recorded the sweep
(runs are known by fingerprints that the other one may not read):

    git worktree add ../before e15aba5
    python src/run.py -m quant=hqq,mbq quant.bits=2,3,4,8 confidence=selector    # here, and in ../before
    python bench/promotion.py --against ../before

Both judge the same cells, in turn and one thread each. What counts are processor seconds of the whole process, imports
included; whether verdicts and estimates are the same is recorded, too. Writes `bench/results/promotion.json`.
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "promotion.json"
ROUNDS = 3
BOUND = 0.45
"""The share of the other checkout's processor seconds that this one may take."""

PROGRAM = "from reliabit.cli import main; main()"


def promote(checkout: Path, store: Path) -> tuple[float, str]:
    """Processor seconds of a dry run in a checkout, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - a fixed program
        [
            *(sys.executable, "-c", PROGRAM, "promote", "--dry-run", "trainer.threads=1"),
            f"tracking.uri=sqlite:///{store}/mlflow.db",
            f"tracking.artifacts={store}/artifacts",
        ],
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "The candidate is" not in done.stdout:
        sys.exit(f"{checkout} chooses no candidate: {done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def verdicts(printed: str) -> list[str]:
    """What was decided, without the figures: each cell's verdict and each rule's outcome."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    return [" ".join(row[:2]) for row in rows if row[1] in ("accepted", "refused", "candidate", "yes", "NO")]


def standings(printed: str) -> list[str]:
    """Where each cell stands on the Pareto front, and its estimates without their intervals."""
    lines = [line for line in printed.splitlines() if re.search(r"\| (front|undecided|dominated) \|", line)]
    return [re.sub(r" \[[^]]*\]", "", line) for line in lines]


def measure(stores: dict[str, tuple[Path, Path]]) -> dict[str, Any]:
    """Run both in turn, each on its own store."""
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    printed = {}
    for _ in range(ROUNDS):
        for name, (checkout, store) in stores.items():
            taken, printed[name] = promote(checkout, store)
            seconds[name].append(round(taken, 2))
            print(json.dumps({name: seconds[name][-1]}), flush=True)
    ratios = [round(after / first, 3) for first, after in zip(seconds["before"], seconds["after"], strict=True)]
    return {
        "cpu_seconds": seconds,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "bound": BOUND,
        "cells": len(standings(printed["after"])),
        "same_verdicts": verdicts(printed["before"]) == verdicts(printed["after"]),
        "same_estimates": standings(printed["before"]) == standings(printed["after"]),
    }


def commit_of(checkout: Path) -> str:
    """The commit of a checkout."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.strip()


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, required=True, help="a checkout of what to compare with")
    parser.add_argument("--store", type=Path, default=ROOT / "mlruns", help="this checkout's mlflow.db and artifacts/")
    parser.add_argument("--against-store", type=Path, help="the other's; by default what is recorded in it")
    options = parser.parse_args()
    against = options.against.resolve()
    results = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": 1},
        "before": commit_of(against),
        "rounds": ROUNDS,
        **measure(
            {
                "before": (against, (options.against_store or against / "mlruns").resolve()),
                "after": (ROOT, options.store.resolve()),
            }
        ),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
