"""Opens a run with a heartbeat, and a run below it for each further name, prints their ids, and works until killed."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from reliabit.tracking.heartbeat import heartbeat, heartbeat_tags
from tracking.stores import tracker_at


def work(folder: str, parent: str, *names: str) -> None:
    tracker = tracker_at(Path(folder))
    with ExitStack() as runs:
        ids: list[str] = []
        for name in names:
            tags = {"kind": "cell", **heartbeat_tags()}
            run = runs.enter_context(tracker.run(name, tags=tags, parent=parent or (ids[0] if ids else None)))
            runs.enter_context(heartbeat(run, every=0.1))
            ids.append(run.run_id)
        print(" ".join(ids), flush=True)  # noqa: T201
        time.sleep(120)


if __name__ == "__main__":
    work(*sys.argv[1:])
