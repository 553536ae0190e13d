"""Processor seconds of this checkout against those of another: one cell, and a sweep of nine that share work.

Run from the repository's root, with a checkout of what to compare with that has an environment of its own (`.venv`):

    git worktree add ../before e15aba5 && make -C ../before setup
    python bench/against.py --before ../before

Both do the same things from nothing, each in a process of one thread, side by side, so that both have the same company,
and as often as `--rounds` says (a sweep takes minutes: once). What counts are processor seconds. What both wrote is
compared: answers, the largest differences of log-probability, confidence and metrics. Writes
`bench/results/against.json` a measurement at a time; `--only` measures some anew.

    python bench/against.py --goals

puts every goal of speed and memory beside what was measured, here and by `bench/kernels.py`, `bench/small_things.py`,
`bench/many_cells.py`, `bench/evaluate.py` and `bench/sweep.py`, prints them, and writes them to the same file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sweep import placed

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "against.json"
SAME = ("model=qwen2_vl_tiny", "confidence=selector")
IMAGES = "{dev: 60, val: 60, cal: 40, test: 80}"
THINGS: dict[str, tuple[str, ...]] = {
    "one cell": ("quant=none",),
    "one cell of mbq": ("quant=mbq", "quant.bits=4"),
    "nine cells": ("-m", "quant=hqq,mbq", "quant.bits=8,4,3,2"),
    "nine small cells": (
        *("-m", "quant=hqq,mbq", "quant.bits=8,4,3,2", f"data.splits={IMAGES}", f"data.ask={IMAGES}"),
        *("quant.calibration.images=16", "confidence.selector.epochs=3"),
    ),
}
BOUNDS = {"one cell": 0.55, "nine cells": 0.5}
"""The shares of the other checkout's processor seconds that were the goal."""


def start(checkout: Path, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a checkout's `src/run.py` in a folder that holds nothing yet."""
    return subprocess.Popen(  # noqa: S603 - a fixed program
        [checkout / ".venv/bin/python", "src/run.py", *arguments, *SAME, *placed(folder)],
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processor_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process; what it and its own took."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    return round(used.ru_utime + used.ru_stime, 1)


def differences(ours: Path, theirs: Path) -> dict[str, Any]:
    """How far the results of two folders are apart, cell by cell in the order of their names."""
    # Artifacts hold them again, in folders that are called at random.
    places = [[folder / "run", folder / "sweep"] for folder in (ours, theirs)]
    tables = [sorted(path for place in one for path in place.rglob("predictions.parquet")) for one in places]
    reports = [sorted(path for place in one for path in place.rglob("metrics.json")) for one in places]
    found: dict[str, Any] = {"cells": len(tables[0]), "questions": 0, "other answers": 0}
    apart = {"log_prob": 0.0, "conf_selector": 0.0}
    for pair in zip(*tables, strict=True):
        mine, other = (
            pq.read_table(path).sort_by([("split", "ascending"), ("question_id", "ascending")]) for path in pair
        )
        found["questions"] += mine.num_rows
        found["other answers"] += int(np.sum(np.array(mine["answer"]) != np.array(other["answer"])))
        for name, gap in apart.items():
            apart[name] = max(gap, float(np.abs(mine[name].to_numpy() - other[name].to_numpy()).max()))
    metrics = 0.0
    for pair in zip(*reports, strict=True):
        mine, other = (json.loads(path.read_text()) for path in pair)
        shared = [name for name in mine if name in other and not name.startswith("efficiency/")]
        metrics = max([metrics, *(abs(mine[name] - other[name]) for name in shared)])
    return {
        **found,
        "largest difference": {**{name: f"{gap:.1e}" for name, gap in apart.items()}, "metric": f"{metrics:.1e}"},
    }


def measure(name: str, before: Path, *, rounds: int) -> dict[str, Any]:
    """Both checkouts, side by side."""
    seconds: list[list[float]] = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as made:
            folders = [Path(made, "ours"), Path(made, "theirs")]
            running = [start(at, folder, *THINGS[name]) for at, folder in zip((ROOT, before), folders, strict=True)]
            took = [processor_seconds(process) for process in running]
            if not number:
                apart = differences(*folders)
        seconds.append(took)
        print(json.dumps({name: took}), flush=True)
    ours, theirs = (statistics.median(column) for column in zip(*seconds, strict=True))
    found = {"cpu_seconds": seconds, "ratio": round(ours / theirs, 3), "results": apart}
    return {**found, "goal": BOUNDS[name]} if name in BOUNDS else found


@dataclass(frozen=True)
class Goal:
    """What was to be reached, and what was measured.

    Attributes:
        what: Of what, against what.
        goal: The share or factor that was to be reached.
        measured: What was; `None` where nothing is.
        source: The file of results.
        at_least: Whether more is better.
    """

    what: str
    goal: float
    measured: float | None
    source: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        if self.measured is None:
            return False
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


def goals() -> list[Goal]:
    """Every goal with what the committed results say of it."""

    def read(name: str) -> Any:
        return json.loads((RESULTS.parent / f"{name}.json").read_text())

    things, kernels, small, many = read("against")["things"], read("kernels"), read("small_things"), read("many_cells")
    found = [Goal(f"{name}, processor seconds", BOUNDS[name], things[name]["ratio"], "against") for name in BOUNDS]
    found.append(
        Goal(
            "nine cells, of the nine alone", 0.35, read("sweep")["confidence=selector"]["share"]["cpu_seconds"], "sweep"
        )
    )
    for row in kernels["memory"]:
        found.append(Goal(f"memory of {row['bits']} bits, of its packed size", 1.06, round(row["rss"], 3), "kernels"))
    for row in kernels["products, 1"]["rows"]:
        if row["batch"] in (32, 128, 512):
            for width, times in row["times_bf16"].items():
                what = f"{row['batch']} rows at {width}, times bf16"
                found.append(Goal(what, 1.0, times, "kernels", at_least=True))
    for row in kernels["solver, 2"]["rows"]:
        goal = {2048: 10.0, 3584: 14.0}[row["size"]]
        what = f"HQQ of {row['size']} squared, two threads, times the library"
        found.append(Goal(what, goal, row["times_library"], "kernels", at_least=True))
    for name in ("reliabit history", "reliabit reap", "reliabit doctor", "run.py: a sweep of finished cells"):
        found.append(Goal(f"{name}, processor seconds", 0.2, _against(small["things"][name]), "small_things"))
    refused = [_against(thing) for name, thing in small["things"].items() if "refused" in name or "no such" in name]
    found.append(Goal("refusals, processor seconds, the slowest", 0.2, max(refused), "small_things"))
    found.append(Goal("refusals, processor seconds, the median", 0.2, statistics.median(refused), "small_things"))
    for name, thing in many["commands"].items():
        found.append(Goal(f"{name}, at 9 999 cells over 99", 2.0, thing["ratio"], "many_cells"))
    found.append(
        Goal("evaluating 10^3 to 10^6 predictions, slope in logarithms", 1.1, read("evaluate")["slope"], "evaluate")
    )
    return found


def _against(thing: Mapping[str, Any]) -> float:
    return float(next(iter(thing["ratio_to"].values())))


def goals_table(found: Sequence[Goal]) -> str:
    """The goals in Markdown."""
    lines = ["| | goal | measured | met | from |", "| --- | --- | --- | --- | --- |"]
    for one in found:
        sign = "≥" if one.at_least else "≤"
        told = "not measured" if one.measured is None else f"{one.measured:g}"
        lines.append(
            f"| {one.what} | {sign} {one.goal:g} | {told} | {'yes' if one.met else 'no'} | `{one.source}.json` |"
        )
    return "\n".join(lines) + "\n"


def commit_of(checkout: Path) -> str:
    """The short name of a checkout's commit."""
    asked = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 - git
    return told.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=Path, help="the other checkout")
    parser.add_argument(
        "--goals", action="store_true", help="put every goal beside what was measured, and measure nothing"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=THINGS, default=list(THINGS))
    options = parser.parse_args(arguments)
    results: Mapping[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.goals:
        found = goals()
        sys.stdout.write(goals_table(found))
        RESULTS.write_text(
            json.dumps({**results, "goals": [asdict(one) | {"met": one.met} for one in found]}, indent=1) + "\n"
        )
        return
    if options.before is None:
        parser.error("--before names the checkout to compare with")
    for name in options.only:
        measured = measure(name, options.before.resolve(), rounds=options.rounds if name == "one cell" else 1)
        results = {
            **results,
            "against": commit_of(options.before),
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": 1},
            "versions": {package: version(package) for package in ("torch", "transformers", "lightning", "mlflow")},
            "columns": ["this checkout", "the other"],
            "things": {**results.get("things", {}), name: measured},
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
