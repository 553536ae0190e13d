"""Writes a sweep to a journal until it is killed: one metric after another, in one record each."""

import sys
from pathlib import Path

from reliabit.tracking.tracker import Journal


def work(folder: str) -> None:
    journal = Journal(Path(folder))
    sweep = journal.start("sweep", tags={"kind": "sweep"})
    with journal.run("finished", tags={"kind": "cell"}, parent=sweep.run_id) as run:
        run.log_metrics({"accuracy/mean": 0.5})
    with journal.run("cut short", tags={"kind": "cell"}, parent=sweep.run_id) as run:
        print(sweep.run_id, run.run_id, flush=True)  # noqa: T201
        for step in range(1_000_000):
            run.log_metrics({f"step_{step}": step})
            run.log_text(str(step) * 1000, f"texts/{step % 3}.txt")


if __name__ == "__main__":
    work(sys.argv[1])
