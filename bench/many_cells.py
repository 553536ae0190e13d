"""What a store of many recorded cells costs: looking up, finding finished, resuming, promoting; by processor seconds.

Run from the repository's root:

    python bench/many_cells.py --cells 99 --cells 9999

One sweep of three cells is really run. Stores are filled with copies of its rows under other ids, fingerprints and
earlier times, whose files are those of the one. Then each command is timed, all stores in turn, imports included.
Writes `bench/results/many_cells.json`.
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from small_things import CELL, RELIABIT, ROOT, SWEEP, seconds

RESULTS = ROOT / "bench" / "results" / "many_cells.json"
BOUND = 2.0
"""So many times what it takes in the smallest store may a command take in the largest."""

A_SWEEP = 3
COMMANDS: dict[str, tuple[str, ...]] = {
    "reliabit history": (*RELIABIT, "history"),
    "reliabit reap": (*RELIABIT, "reap"),
    "a finished run": CELL,
    "a sweep of finished cells, compared": SWEEP,
    "reliabit promote --dry-run": (*RELIABIT, "promote", "--dry-run", "registry.confidence=maxprob"),
}
OWNED = ("tags", "params", "metrics", "latest_metrics", "runs")
IDENTITIES = ("fingerprint", "cell")
"""Tags that no copy may share with the cell that is looked for."""


def fill(database: Path, *, cells: int) -> None:
    """Copy the sweep and its cells until there are so many, each with ids and fingerprints of its own."""
    connection = sqlite3.connect(database)
    rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in OWNED}  # noqa: S608
    columns = {table: [column[1] for column in connection.execute(f"PRAGMA table_info({table})")] for table in OWNED}
    ids = [row[columns["runs"].index("run_uuid")] for row in rows["runs"]]
    with connection:
        for number in range(1, cells // A_SWEEP):
            other = {one: uuid.uuid4().hex for one in ids}
            for table in OWNED:
                put = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns[table]))})"  # noqa: S608
                connection.executemany(
                    put, [copied(dict(zip(columns[table], row, strict=True)), other, number) for row in rows[table]]
                )
    connection.execute("ANALYZE")
    connection.close()


def copied(row: dict[str, Any], other: dict[str, str], number: int) -> list[Any]:
    """A row of a copy: its run, the sweep that it names, its identity, and its times so many minutes earlier."""
    values = {name: other.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
    if str(row.get("key", "")).endswith(IDENTITIES):
        values["value"] = uuid.uuid4().hex * 2
    for name in ("start_time", "end_time"):
        if row.get(name) is not None:
            values[name] = row[name] - 60_000 * number
    return [*values.values()]


def measure(sizes: Sequence[int], *, rounds: int, folder: Path) -> dict[str, list[list[float]]]:
    """Fill a store for each size, and time every command in all of them in turn."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    first = folder / "first.db"
    artifacts = f"tracking.artifacts={folder / 'artifacts'}"
    seconds(ROOT, [*SWEEP, f"tracking.uri=sqlite:///{first}", artifacts], environment)
    stores = []
    for size in sizes:
        stores.append(folder / f"{size}.db")
        shutil.copyfile(first, stores[-1])
        fill(stores[-1], cells=size)
    found: dict[str, list[list[float]]] = {}
    for name, command in COMMANDS.items():
        asked = [[*command, f"tracking.uri=sqlite:///{store}", artifacts] for store in stores]
        found[name] = [[round(seconds(ROOT, one, environment), 3) for one in asked] for _ in range(rounds)]
        print(f"{name:36} {found[name]}", flush=True)
    return found


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cells", type=int, action="append", help="so many in a store; several in turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = options.cells or [99, 9999]
    with TemporaryDirectory() as folder:
        found = measure(sizes, rounds=options.rounds, folder=Path(folder))
    commands = {}
    for name, rows in found.items():
        ratio = round(statistics.median(row[-1] / row[0] for row in rows), 3)
        commands[name] = {"cpu_seconds": rows, "ratio": ratio, "within_bound": ratio <= BOUND}
    results = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "cells": sizes,
        "bound": BOUND,
        "commands": commands,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
