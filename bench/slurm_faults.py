"""What faults of a cluster cost a sweep: each is brought about ten times and more on a local Slurm of two nodes.

    python bench/slurm_faults.py --times 10

Runs sweeps of twelve cells on both nodes, brings one fault about again and again while they run, goes on with what
failed (`sweep.resume=last`), and compares the numbers of all cells with those of an undisturbed sweep. Needs what
`make test-slurm` installs, and root. Writes `bench/results/slurm_faults.json` after each sweep.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "slurm_faults.json"
UNDISTURBED = "undisturbed"
"""Under this name the results hold the numbers that all are compared with; without them they are measured first."""


def write(results: dict[str, Any]) -> None:
    """Keep what was measured so far."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm.faults import FAULTS, SLURM, TINY, TWELVE, Place, suffer, undisturbed
    from slurm.local_cluster import cluster_and_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="how often each fault is brought about")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", help="only these")
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    with cluster_and_server("slurm_faults") as (folder, cluster, server):
        if UNDISTURBED not in results:
            results[UNDISTURBED] = undisturbed(Place(folder / UNDISTURBED, cluster, server, UNDISTURBED))
            write(results)
        for name in asked.fault or FAULTS:
            fault, every = FAULTS[name]
            results[name] = []
            while (tried := sum(one["tried"] for one in results[name])) < asked.times:
                number = len(results[name])
                place = Place(folder / f"{name}-{number}".replace(" ", "-"), cluster, server, f"{name} {number}")
                times, expected = asked.times - tried, results[UNDISTURBED]
                sweep = (*TWELVE, *TINY, *SLURM)
                outcome = asdict(suffer(place, fault, times=times, every=every, expected=expected, sweep=sweep))
                results[name].append(outcome)
                sys.stdout.write(f"{name}: {outcome}\n")
                sys.stdout.flush()
                write(results)


if __name__ == "__main__":
    main()
