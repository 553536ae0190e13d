"""What the tests of the registry let other processes do."""

import os
import sys
import time
from pathlib import Path

from registry.bundles import accepting
from reliabit.registry._lock import registry_lock
from reliabit.registry.promotion import promote
from reliabit.tracking.tracker import Tracker
from tracking.stores import tracker_at

ROUNDS = 3


def open_here(folder: Path, uri: str | None) -> Tracker:
    return tracker_at(folder) if uri is None else Tracker(uri=uri, artifacts="", experiment="test")


def enter_and_leave(folder: Path, uri: str | None = None) -> int:
    """Hold the lock a few times, and write down when; fails if another process holds it too."""
    tracker = open_here(folder, uri)
    inside, diary = folder / "inside", folder / "diary"
    for _ in range(ROUNDS):
        with registry_lock(tracker.client, "shared", wait=120):
            inside.touch(exist_ok=False)
            with diary.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.05)
            inside.unlink()
    return os.getpid()


def promote_slowly(folder: Path, name: str, version: str, uri: str | None = None) -> tuple[str, str | None]:
    """Promote a version by a decision that takes its time; gives the outcome, and the champion that it met."""

    def decide(incumbent):
        time.sleep(0.5)
        return accepting(incumbent)

    attempt = promote(open_here(folder, uri), name, version, decide=decide)
    return attempt.outcome, attempt.previous


def hold(folder: str, name: str) -> None:
    """Take the lock and keep it until killed."""
    with registry_lock(tracker_at(Path(folder)).client, name):
        print("held", flush=True)  # noqa: T201
        time.sleep(120)


def die_deciding(folder: str, name: str, version: str) -> None:
    """Begin a promotion and be killed within it."""

    def decide(_):
        print("deciding", flush=True)  # noqa: T201
        time.sleep(120)

    promote(tracker_at(Path(folder)), name, version, decide=decide)


if __name__ == "__main__":
    {"hold": hold, "die_deciding": die_deciding}[sys.argv[1]](*sys.argv[2:])
