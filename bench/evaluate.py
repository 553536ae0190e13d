"""What `task=evaluate` takes for 1 000 to 1 000 000 predictions, by processor seconds; run from the repository's root.

    python bench/evaluate.py

The rows of a real table, of a single run of 48 questions, are repeated under other questions and images. The slope is
that of a line through logarithms, less what the smallest table takes alone. Writes `bench/results/evaluate.json`.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from small_things import CELL, ROOT, RUN, seconds

RESULTS = ROOT / "bench" / "results" / "evaluate.json"
SIZES = (10**3, 10**4, 10**5, 10**6)
BOUND = 1.1
START = 10
"""So few predictions take what a start costs, and next to nothing more."""


def repeated(table: pa.Table, *, rows: int) -> pa.Table:
    """A table of so many rows; each repetition has questions and images of its own."""
    times = math.ceil(rows / table.num_rows)
    parts = []
    for number in range(times):
        part = table
        for name in ("question_id", "image_id"):
            position = part.schema.get_field_index(name)
            renamed = [f"{one}-{number}" for one in part[name].to_pylist()]
            part = part.set_column(position, part.schema.field(name), pa.array(renamed, part.schema.field(name).type))
        parts.append(part)
    return pa.concat_tables(parts)


def slope(found: dict[int, float], *, start: float) -> float:
    """The slope in logarithms of what is taken above the start, between the largest sizes."""
    (small, low), (large, high) = sorted(found.items())[-2:]
    return math.log((high - start) / (low - start)) / math.log(large / small)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, action="append", help="so many predictions; several in turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    found: dict[int, list[float]] = {}
    with TemporaryDirectory() as place:
        folder = Path(place)
        run = folder / "run"
        store = [f"tracking.uri=sqlite:///{folder}/m.db", f"tracking.artifacts={folder}/artifacts"]
        seconds(ROOT, [*CELL, *store, f"paths.output={run}"], environment)
        table = pq.read_table(next(run.rglob("predictions.parquet")))
        for rows in (START, *(options.rows or SIZES)):
            pq.write_table(table if rows == START else repeated(table, rows=rows), folder / f"{rows}.parquet")
            command = [*RUN, "task=evaluate", f"task.predictions={folder}/{rows}.parquet", "trainer.threads=1"]
            found[rows] = []
            for number in range(options.rounds):
                found[rows].append(
                    round(seconds(ROOT, [*command, f"paths.output={folder}/o{rows}-{number}"], environment), 3)
                )
            print(rows, found[rows], flush=True)
    medians = {rows: statistics.median(taken) for rows, taken in found.items()}
    start = medians.pop(START)
    steep = round(slope(medians, start=start), 3)
    results: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "start_cpu_seconds": start,
        "cpu_seconds": found,
        "slope": steep,
        "bound": BOUND,
        "within_bound": steep <= BOUND,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
