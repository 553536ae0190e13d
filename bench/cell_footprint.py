"""What each further cell of a sweep costs: rows, bytes, files, and requests to the tracking server.

    python bench/cell_footprint.py

Sweeps of three and of nine cells of few questions are recorded by an MLflow server on sqlite and on PostgreSQL; what
the larger took more, divided by six, is what a cell costs, without what all cells share. Then one cell is asked all
questions. Needs PostgreSQL. Writes `bench/results/cell_footprint.json`.
"""

import json
import os
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from small_things import CELL, ROOT, seconds

RESULTS = ROOT / "bench" / "results" / "cell_footprint.json"
SMALL, LARGE = ("quant.bits=3,4", "seed=0"), ("quant.bits=2,3,4,8", "quant.group_size=32,64", "seed=0")
"""Two and eight cells, and the unquantized one."""

FURTHER = 6
REQUEST = re.compile(r'"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1"')
IDS = re.compile(r"/(?:\d+|[0-9a-f]{32})(?=/)")


def files_below(folder: Path) -> dict[str, float]:
    """How many files and folders lie in a folder, and how many MiB they hold.

    >>> files_below(Path("/nowhere"))
    {'inodes': 0, 'MiB': 0.0}
    """
    found = [*folder.rglob("*")]
    size = sum(path.stat().st_size for path in found if path.is_file())
    return {"inodes": len(found), "MiB": round(size / 2**20, 3)}


def rows_in_sqlite(database: Path) -> tuple[dict[str, int], int]:
    """The rows of each table, and the bytes of all."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608
        pages, size = (connection.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "page_size"))
    return rows, pages * size


def rows_in_postgres(uri: str) -> tuple[dict[str, int], int]:
    """The same of PostgreSQL."""
    import psycopg

    with psycopg.connect(uri) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in names}  # noqa: S608
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
    return rows, size


def requests_in(log: Path) -> Counter[str]:
    """How often each path was asked for, without ids.

    Files of a run are counted together.
    """
    found = Counter()
    for method, path in REQUEST.findall(log.read_text(encoding="utf-8")):
        plain = IDS.sub("/*", path.partition("?")[0])
        found[f"{method} {'/artifacts/*' if 'mlflow-artifacts' in plain else plain}"] += 1
    return found


def state(read_rows: Any, database: Any, *, folder: Path, sweep: Path) -> dict[str, Mapping[str, float]]:
    """All that is counted, as it stands."""
    rows, size = read_rows(database)
    return {
        "rows": rows,
        "database": {"MiB": size / 2**20},
        "artifacts": files_below(folder / "served"),
        "sweep_folder": files_below(sweep),
        "requests": requests_in(folder / "server.log"),
    }


def per_cell(before: Any, small: Any, large: Any, *, sweeps: tuple[Path, Path]) -> dict[str, Any]:
    """What a further cell adds: the larger sweep less the smaller, over their difference in cells."""
    small_sweep, large_sweep = (files_below(sweep) for sweep in sweeps)
    found: dict[str, Any] = {
        "sweep_folder": {key: round((large_sweep[key] - small_sweep[key]) / FURTHER, 3) for key in small_sweep}
    }
    for part in ("rows", "database", "artifacts", "requests"):
        more = {
            key: ((value - small[part].get(key, 0)) - (small[part].get(key, 0) - before[part].get(key, 0))) / FURTHER
            for key, value in large[part].items()
        }
        found[part] = {key: round(value, 3) for key, value in sorted(more.items()) if abs(value) > 1e-3}
    return found


def measure(backend: str, read_rows: Any, database: Any, folder: Path) -> dict[str, Any]:
    """Record both sweeps in a store, and say what a cell cost it."""
    from tracking.servers import mlflow_server

    folder.mkdir()
    with mlflow_server(backend, folder=folder) as address:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": address}
        states, sweeps = [], (folder / "small", folder / "large")
        shared = [*(one for one in CELL[1:] if one != "quant.bits=4"), "tracking=server"]
        shared += [f"paths.data={folder}/data", f"paths.cache={folder}/cache"]
        seconds(ROOT, [CELL[0], "-m", "quant=none", *shared, f"hydra.sweep.dir={folder}/first"], environment)
        for sweep, cells in zip((folder / "first", *sweeps), (None, SMALL, LARGE), strict=True):
            if cells is not None:
                force = ["sweep.force=true", f"hydra.sweep.dir={sweep}"]
                seconds(ROOT, [CELL[0], "-m", *cells, *shared, *force], environment)
            states.append(state(read_rows, database, folder=folder, sweep=sweep))
        whole = ["quant.bits=4", "trainer.threads=1", "trainer.progress_bar=false", "tracking=server", shared[-1]]
        seconds(ROOT, [CELL[0], *whole, f"paths.data={folder}/all", f"paths.output={folder}/whole"], environment)
    last = state(read_rows, database, folder=folder, sweep=folder / "whole")
    of_all = {
        "output_folder": last["sweep_folder"],
        "rows": sum(last["rows"].values()) - sum(states[-1]["rows"].values()),
    }
    for part in ("artifacts", "database"):
        of_all[part] = {key: round(last[part][key] - states[-1][part][key], 3) for key in last[part]}
    return {"few_questions": per_cell(*states, sweeps=sweeps), "all_questions": of_all}


def main() -> None:
    """Measure."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tracking.servers import postgres

    found = {}
    with tempfile.TemporaryDirectory(prefix="footprint") as temporary, postgres("correct-horse") as uri:
        database = Path(temporary) / "mlflow.db"
        stores = {
            "sqlite": (f"sqlite:///{database}", rows_in_sqlite, database),
            "postgresql": (uri, rows_in_postgres, uri),
        }
        for name, (backend, read_rows, read_from) in stores.items():
            found[name] = measure(backend, read_rows, read_from, Path(temporary) / name)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
