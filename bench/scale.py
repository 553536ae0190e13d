"""How much sooner two nodes end a sweep than one: time against cells on a local Slurm, each node a core.

    python bench/scale.py --cells 2 --cells 8 --rounds 3

Cells share nothing but the questions that a first sweep prepared and encoded, and take one thread. Both numbers of
nodes have their turn in every round. Others may use the machine, so what the cells and what all other processes took of
the processors stands beside each time; `--nice -15` has cells go first. Needs what `make test-slurm` installs, and
root. Writes `bench/results/scale.json` after each sweep.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm.faults import Place

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "scale.json"
BOUND = 1.8
WIDTHS, GROUPS = (2, 3, 4, 8), (32, 64)
"""Cells that share no answers: every width in every size of groups."""

CLOCK = os.sysconf("SC_CLK_TCK")


def cells_of(count: int) -> list[str]:
    """The overrides of so many cells: two, four or eight.

    >>> cells_of(4)
    ['quant.bits=2,3', 'quant.group_size=32,64', 'sweep.baseline=false']
    """
    widths = ",".join(str(width) for width in WIDTHS[: count // len(GROUPS)])
    return [f"quant.bits={widths}", f"quant.group_size={','.join(map(str, GROUPS))}", "sweep.baseline=false"]


def busy_seconds() -> float:
    """What all processes took of all processors since the machine started."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:])
    return (user + nice + system) / CLOCK


def cell_seconds(known: dict[int, float], *, nice: int) -> None:
    """Note what each process of a job has taken by now, its children that ended included; prefer those that are new."""
    from slurm.local_cluster import is_cell, processes

    for pid in processes():
        if is_cell(pid):
            try:
                if nice and pid not in known:
                    # By process, and by session, as Linux groups them.
                    os.setpriority(os.PRIO_PROCESS, pid, nice)
                    Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            except OSError:
                continue
            known[pid] = sum(map(int, fields[11:15])) / CLOCK


def timed(place: "Place", *, cells: int, nodes: int, nice: int) -> dict[str, Any]:
    """Run a sweep on one node or on both, and say how long it took from its first job to its last."""
    from slurm.faults import SLURM, TINY

    where = [] if nodes == 2 else ["hydra.launcher.exclude=n2"]
    process = place.start("-m", *cells_of(cells), *TINY, *SLURM, *where)
    moments: list[tuple[float, float]] = []
    known: dict[int, float] = {}
    while process.poll() is None:
        if place.cluster.jobs():
            moments.append((time.monotonic(), busy_seconds()))
        cell_seconds(known, nice=nice)
        time.sleep(0.3)
    told = process.communicate(timeout=300)[0]
    if process.returncode != 0 or len(place.runs("cell")) != cells:
        raise SystemExit(told)
    own, (first, before), (last, after) = sum(known.values()), moments[0], moments[-1]
    return {
        "cells": cells,
        "nodes": nodes,
        "seconds": round(last - first, 1),
        "cpu_seconds_of_cells": round(own, 1),
        "cpu_seconds_of_others": round(after - before - own, 1),
        "load": float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0]),
    }


def pin(folder: Path) -> None:
    """Give each node a core of its own, which all that it starts keeps to."""
    for core, node in enumerate(("n1", "n2")):
        pid = (folder / "run" / f"slurmd.{node}.pid").read_text(encoding="ascii").strip()
        subprocess.run(["taskset", "-acp", str(core), pid], check=True, capture_output=True)  # noqa: S603, S607


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """How much sooner two nodes are, by the median of the rounds, for each number of cells.

    By processor seconds it is what two cores would give that nobody else uses: twice, less what cells beside each other
    cost each other.

    >>> one = {"cells": 4, "nodes": 1, "seconds": 50.0, "cpu_seconds_of_cells": 40.0}
    >>> two = {"cells": 4, "nodes": 2, "seconds": 30.0, "cpu_seconds_of_cells": 42.0}
    >>> summary([one, two])["speed_up"], summary([one, two])["speed_up_by_processor_seconds"]
    ({4: 1.67}, {4: 1.9})
    """
    counts = sorted({one["cells"] for one in found})
    timed_, charged = (
        {cells: ratio for cells in counts if (ratio := _ratio(found, cells, key)) is not None}
        for key in ("seconds", "cpu_seconds_of_cells")
    )
    return {
        "speed_up": timed_,
        "speed_up_by_processor_seconds": {cells: round(2 * ratio, 2) for cells, ratio in charged.items()},
        "bound": BOUND,
        "within_bound": bool(timed_) and min(timed_.values()) >= BOUND,
    }


def _ratio(found: list[dict[str, Any]], cells: int, key: str) -> float | None:
    one, two = (
        [round_[key] for round_ in found if (round_["cells"], round_["nodes"]) == (cells, nodes)] for nodes in (1, 2)
    )
    ratios = [slow / fast for slow, fast in zip(one, two, strict=False)]
    return round(statistics.median(ratios), 2) if ratios else None


def main() -> None:
    """Measure."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm.faults import SLURM, TINY, Place
    from slurm.local_cluster import cluster_and_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, action="append", choices=(2, 4, 8), help="so many in a sweep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nice", type=int, default=0, help="the priority of cells; below 0 before all others")
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    with cluster_and_server("scale") as (folder, cluster, server):
        pin(cluster.folder)
        first = Place(folder / "first", cluster, server, "first")
        process = first.start("-m", "quant=none", *TINY, *SLURM)
        told = process.communicate(timeout=600)[0]
        if process.returncode != 0:
            raise SystemExit(told)
        for number in range(asked.rounds):
            for cells in asked.cells or [2, 4, 8]:
                # Whatever load comes and goes meets both.
                for nodes in (1, 2) if number % 2 == 0 else (2, 1):
                    name = f"round-{number}-{cells}-{nodes}"
                    for part in ("data", "cache/encoded"):
                        shutil.copytree(first.folder / part, folder / name / part)
                    place = Place(folder / name, cluster, server, name)
                    found.append(timed(place, cells=cells, nodes=nodes, nice=asked.nice))
                    sys.stdout.write(f"{found[-1]}\n")
                    sys.stdout.flush()
                    machine = {"cpus": os.cpu_count(), "platform": platform.platform()}
                    results = {"machine": machine, "sweeps": found, **summary(found)}
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
