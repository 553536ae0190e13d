"""What the tests of tracking share: a real store in a folder, and what a store holds of a run."""

from pathlib import Path

from reliabit.tracking.tags import PARENT_TAG
from reliabit.tracking.tracker import Tracker


def store_at(folder: Path) -> dict[str, str]:
    return {
        "uri": f"sqlite:///{folder}/mlruns/mlflow.db",
        "artifacts": f"{folder}/mlruns/artifacts",
        "experiment": "test",
    }


def tracker_at(folder: Path, *, experiment: str = "test") -> Tracker:
    return Tracker(**{**store_at(folder), "experiment": experiment})


def create(tracker: Tracker, name: str, *, tags: dict[str, str], parent: str | None = None) -> str:
    """Open a run with these tags alone: not with the heartbeat of this process."""
    own = {PARENT_TAG: parent} if parent else {}
    return str(tracker.client.create_run(tracker.experiment_id, run_name=name, tags={**tags, **own}).info.run_id)


def runs_of(tracker: Tracker) -> list:
    return list(tracker.client.search_runs([tracker.experiment_id], order_by=["attributes.start_time ASC"]))


def artifacts_of(run) -> dict[str, bytes]:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
