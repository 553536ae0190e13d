"""What small things cost: help, versions, refusals, looking things up, a finished run again, Tab; by processor seconds.

Run from the repository's root, with checkouts of what to compare with that have environments of their own (`.venv`):

    git worktree add ../before e15aba5 && make -C ../before setup
    python bench/small_things.py --against ../before --against ../between

All do the same things in turn, one thread each, and each has a finished run and a registry of its own to look at. What
counts are processor seconds of the whole process, imports included. Writes `bench/results/small_things.json`.
"""

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "small_things.json"
BOUND = 0.2
"""The share of the first checkout's processor seconds that this one may take."""

RUN, RELIABIT = ("src/run.py",), ("-c", "from reliabit.cli import main; main()")
IMAGES = "{dev: 12, val: 12, cal: 12, test: 12}"
CELL = (
    *RUN,
    *(f"data.splits={IMAGES}", f"data.ask={IMAGES}", "evaluation.resamples=20", "confidence.selector.epochs=2"),
    *("quant.bits=4", "trainer.threads=1", "trainer.progress_bar=false"),
)
SWEEP = (CELL[0], "-m", *(one for one in CELL[1:] if one != "quant.bits=4"), "quant.bits=3,4")
REFUSED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("answer", "footprint", "quantize", "recover"), ("model.path=/nope",)),
    **dict.fromkeys(("assemble", "evaluate", "report", "search", "select"), ()),
    **dict.fromkeys(("calibrate", "prepare", "pretrain"), ("quant.bits=7",)),
    "promote": ("task.results=/nope",),
}
"""What is wrong with each task that is refused; `pipeline` stands in all the others."""

THINGS: dict[str, tuple[str, ...]] = {
    "run.py --help": (*RUN, "--help"),
    "run.py --version": (*RUN, "--version"),
    "run.py: a wrong value": (*RUN, "quant.bits=7"),
    "run.py: a wrong option": (*RUN, "quant=nope"),
    "run.py: a wrong key": (*RUN, "quant.bitz=3"),
    "run.py: a missing table": (*RUN, "task=evaluate", "task.predictions=nope.parquet"),
    "run.py: a missing model": (*RUN, "model.path=/nope"),
    "run.py: Tab": (*RUN, "-sc", "query=bash"),
    "run.py: a finished run": CELL,
    "run.py: a sweep of finished cells": SWEEP,
    **{f"run.py: task={task}, refused": (*RUN, f"task={task}", *wrong) for task, wrong in REFUSED.items()},
    "reliabit --help": (*RELIABIT, "--help"),
    "reliabit --version": (*RELIABIT, "--version"),
    "reliabit: a wrong command": (*RELIABIT, "nope"),
    "reliabit: a wrong value": (*RELIABIT, "doctor", "quant.bits=7"),
    "reliabit doctor": (*RELIABIT, "doctor"),
    "reliabit history": (*RELIABIT, "history"),
    "reliabit reap": (*RELIABIT, "reap"),
    "reliabit rollback, nowhere to go": (*RELIABIT, "rollback"),
    "reliabit pull, no such version": (*RELIABIT, "pull", "models:/reliabit@champion", "{folder}/bundle"),
    "reliabit promote, no such sweep": (*RELIABIT, "promote", "--sweep", "nope"),
    "reliabit serve, no port": (*RELIABIT, "serve", "--port", "99999"),
    "reliabit serve, port taken": (*RELIABIT, "serve", "--port", "{port}"),
}


def seconds(checkout: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Processor seconds of one command in a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(checkout / ".venv" / "bin" / "python"), *arguments]
    subprocess.run(command, cwd=checkout, env=dict(environment), capture_output=True, check=False)  # noqa: S603 - fixed
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(checkouts: Sequence[Path], *, rounds: int, things: Sequence[str]) -> dict[str, Any]:
    """Do all things in all checkouts, in turn."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RELIABIT"))}
    line = {"COMP_LINE": "python src/run.py quant=h", "COMP_POINT": "25"}
    environment = {**own, **line, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    found: dict[str, list[list[float]]] = {}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        places = {"{port}": str(taken.getsockname()[1]), "{folder}": "/nowhere"}
        for checkout in checkouts:
            # Whatever is made once is made before: the store, the table, the run, and most compiled modules.
            for name in ("run.py: a finished run", "run.py: a sweep of finished cells", "reliabit history"):
                seconds(checkout, filled(THINGS[name], places), environment)
        for name in things:
            arguments = filled(THINGS[name], places)
            found[name] = [
                [round(seconds(checkout, arguments, environment), 3) for checkout in checkouts] for _ in range(rounds)
            ]
            ratios = [round(row[0] / row[1], 3) for row in found[name]]
            print(f"{name:36} {found[name]} {statistics.median(ratios)}", flush=True)
    return {name: told(rows, checkouts) for name, rows in found.items()}


def filled(arguments: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """Arguments with what is known only when they are used."""
    for name, value in places.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    return list(arguments)


def told(rows: Sequence[Sequence[float]], checkouts: Sequence[Path]) -> dict[str, Any]:
    """The seconds of all rounds, and the ratios of this checkout to each of the others, by their commits."""
    here, *others = zip(*rows, strict=True)
    ratios = {
        commit_of(checkout): round(statistics.median(a / b for a, b in zip(here, other, strict=True)), 3)
        for checkout, other in zip(checkouts[1:], others, strict=True)
    }
    first = next(iter(ratios.values()))
    return {"cpu_seconds": rows, "median": statistics.median(here), "ratio_to": ratios, "within_bound": first <= BOUND}


def commit_of(checkout: Path) -> str:
    """The commit of a checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, action="append", required=True, help="a checkout; several in turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--thing", choices=list(THINGS), action="append", help="some alone, whose results are replaced")
    options = parser.parse_args()
    checkouts = [ROOT, *(checkout.resolve() for checkout in options.against)]
    things = measure(checkouts, rounds=options.rounds, things=options.thing or list(THINGS))
    written = json.loads(RESULTS.read_text()) if RESULTS.is_file() and options.thing else {}
    results = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "columns": ["this checkout", *(commit_of(checkout) for checkout in checkouts[1:])],
        "bound": BOUND,
        "rounds": options.rounds,
        "things": {**written.get("things", {}), **things},
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
