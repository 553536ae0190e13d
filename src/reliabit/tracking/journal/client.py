"""The client of a journal: takes the calls that the tracker makes of MLflow's, so everything that logs works unchanged.

Each run is a folder of its own that one process writes, so any number of cells may run at once, on any file system.
"""

import math
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.files import replacing, sha256
from reliabit.tracking.heartbeat import heartbeat_tags
from reliabit.tracking.journal._fields import JOURNAL_VERSION, RUNNING
from reliabit.tracking.journal._records import ARTIFACTS, RecordedRun, append, read_run, read_runs, unwritable
from reliabit.tracking.store.calls import artifact_path, copy_artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag
    from mlflow.store.entities import PagedList

EXPERIMENT = "offline"
"""The one experiment of a journal."""


class JournalClient:
    """The calls of `mlflow.MlflowClient` that a tracker makes, written to a folder; see there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The heartbeat logs from a thread of its own.
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
    ) -> "Run":
        """Open a run."""
        key = uuid.uuid4().hex
        started = start_time or _now()
        # Without a sign of whose it is, nobody could tell whether an unfinished run may still go on.
        own = {**heartbeat_tags(), **(tags or {})}
        try:
            (self._folder / key / ARTIFACTS).mkdir(parents=True)
        except OSError as error:
            raise unwritable(self._folder / key, error) from error
        self._append(
            key, version=JOURNAL_VERSION, at=started, opened=time.time_ns(), name=run_name or key[:8], tags=own
        )
        _sync_folder(self._folder / key)
        _sync_folder(self._folder)
        return self.get_run(key)

    def log_batch(
        self,
        run_id: str,
        metrics: "Sequence[Metric]" = (),
        params: "Sequence[Param]" = (),
        tags: "Sequence[RunTag]" = (),
    ) -> None:
        """Record metrics, parameters and tags."""
        values = [[m.key, m.value if math.isfinite(m.value) else str(m.value), m.timestamp, m.step] for m in metrics]
        found = {
            "metrics": values,
            "parameters": {parameter.key: parameter.value for parameter in params},
            "tags": {tag.key: tag.value for tag in tags},
        }
        self._append(run_id, **{name: records for name, records in found.items() if records})

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag."""
        self._append(run_id, tags={key: str(value)})

    def log_inputs(self, run_id: str, datasets: "Sequence[DatasetInput]") -> None:
        """Record data sets as inputs."""
        plain = [{**dict(entry.dataset), "tags": {tag.key: tag.value for tag in entry.tags}} for entry in datasets]
        self._append(run_id, datasets=plain)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """Copy a file beside the records."""
        source = Path(local_path)
        if not source.is_file():
            raise FileNotFoundError(f"there is no file {source} to record")
        with self._artifact(run_id, f"{artifact_path or '.'}/{source.name}") as target:
            shutil.copyfile(source, target)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Write a text beside the records."""
        with self._artifact(run_id, artifact_file) as target:
            target.write_text(text, encoding="utf-8")

    def log_figure(self, run_id: str, figure: "Figure", artifact_file: str) -> None:
        """Write a figure beside the records, in the format that its name ends in."""
        with self._artifact(run_id, artifact_file) as target:
            figure.savefig(target, format=PurePosixPath(artifact_file).suffix.lstrip("."))

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        """End a run."""
        self._append(run_id, status=status or "FINISHED", at=end_time or _now())

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Change the state of a run, to open it again, or its name."""
        changed = {key: value for key, value in (("status", status), ("name", name)) if value is not None}
        self._append(run_id, **changed, at=_now())

    def delete_run(self, run_id: str) -> None:
        """Take a run back; it is not imported."""
        self._append(run_id, deleted=True)

    def get_run(self, run_id: str) -> "Run":
        """What is recorded of a run."""
        recorded = read_run(self._run_folder(run_id))
        if recorded is None:
            raise ReliabitError(f"the run {run_id} of the journal {self._folder} has no whole record; run it again")
        return _as_run(recorded)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int | None = None,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> "PagedList[Run]":
        """The runs that a filter lets through, always oldest first; deleted ones never."""
        from mlflow.store.entities import PagedList
        from mlflow.utils.search_utils import SearchUtils

        runs = [_as_run(run) for run in read_runs(self._folder) if not run.deleted]
        page, token = SearchUtils.paginate(SearchUtils.filter(runs, filter_string), page_token, max_results)
        return PagedList(page, token)

    def download_artifacts(self, run_id: str, path: str, dst_path: str) -> str:
        """Copy an artifact, a file or a folder, into a folder, under its own path."""
        return copy_artifact(self._run_folder(run_id) / ARTIFACTS, path, Path(dst_path))

    @contextmanager
    def _artifact(self, run_id: str, name: str) -> Iterator[Path]:
        target = self._run_folder(run_id) / ARTIFACTS / artifact_path(name)
        try:
            with replacing(target) as unfinished:
                yield unfinished
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
                digest = sha256(unfinished)
            _sync_folder(target.parent)
            name = artifact_path(name).as_posix()
            self._append(run_id, artifacts=[name], sha256={name: digest})
        except OSError as error:
            raise unwritable(target, error) from error

    def _run_folder(self, run_id: str) -> Path:
        folder = self._folder / artifact_path(run_id)
        if not folder.is_dir():
            raise FileNotFoundError(f"the journal {self._folder} has no run {run_id}")
        return folder

    def _append(self, run_id: str, **record: Any) -> None:
        folder = self._run_folder(run_id)
        with self._lock:
            append(folder, record)


def _as_run(recorded: RecordedRun) -> "Run":
    """A recorded run as the entity that MLflow's client gives out; one that has not ended is RUNNING."""
    from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

    info = RunInfo(
        run_id=recorded.key,
        experiment_id=EXPERIMENT,
        user_id="",
        status=recorded.status or RUNNING,
        start_time=recorded.started,
        end_time=recorded.ended,
        lifecycle_stage="deleted" if recorded.deleted else "active",
        artifact_uri=(recorded.folder / ARTIFACTS).resolve().as_uri(),
        run_name=recorded.name,
    )
    data = RunData(
        metrics=[Metric(*metric) for metric in recorded.metrics],
        params=[Param(key, value) for key, value in recorded.parameters.items()],
        tags=[RunTag(key, value) for key, value in recorded.tags.items()],
    )
    return Run(run_info=info, run_data=data)


def _sync_folder(folder: Path) -> None:
    # A new name is on the disk only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> int:
    return int(time.time() * 1000)
