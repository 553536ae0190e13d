"""The tracker: the only code that writes runs. A run that it opens always ends, as finished or as failed."""

import hashlib
import math
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from reliabit import identity
from reliabit.disk_errors import what_is_full
from reliabit.errors import ReliabitError
from reliabit.files import check_hash, sha256
from reliabit.tracking.context import was_queued_again
from reliabit.tracking.heartbeat import heartbeat, heartbeat_tags
from reliabit.tracking.journal.client import EXPERIMENT, JournalClient
from reliabit.tracking.parameters import flatten, parameters_of
from reliabit.tracking.redaction import redact, redact_config, redact_values
from reliabit.tracking.settings import JOURNAL, TrackingConfig
from reliabit.tracking.store.calls import all_pages, log_all, store_errors
from reliabit.tracking.store.opening import open_store
from reliabit.tracking.store.outages import RESTART_SECONDS
from reliabit.tracking.tags import (
    CELL_TAG,
    FAILURE_REASON,
    FAILURE_TYPE,
    FINGERPRINT_TAG,
    HASHES,
    PARENT_TAG,
    PLACES,
    REUSED,
    adoption_tag,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

CONFIG = "config.yaml"
"""The artifact that holds a run's configuration."""


@dataclass(frozen=True)
class TrackedRun:
    """An open run.

    Attributes:
        client: The client of the store that holds it.
        run_id: The run.
    """

    client: "MlflowClient"
    run_id: str

    def log_parameters(self, config: Mapping[str, Any]) -> None:
        """Record a nested configuration as parameters, `quant.bits` and so on."""
        from mlflow.entities import Param

        parameters = [Param(key, redact(str(value))) for key, value in flatten(redact_config(config)).items()]
        log_all(self.client, self.run_id, params=parameters)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics in few calls; an infinite one, which MLflow would store as a huge number, as not a number."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value if math.isfinite(value) else math.nan for name, value in metrics.items()}
        log_all(self.client, self.run_id, metrics=[Metric(name, value, now, step) for name, value in finite.items()])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Record a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def log_text(self, text: str, name: str) -> None:
        """Record a text as an artifact of that name."""
        self.client.log_text(self.run_id, redact(text), name)

    def log_identity(self, config: Mapping[str, Any], *, fingerprint: identity.Fingerprint) -> None:
        """Record what is run: the configuration, as `config.yaml` and what it varies as parameters; its fingerprint."""
        self.log_parameters(parameters_of(config))
        flat = flatten(redact_config(config))
        self.set_tags({key: str(flat[key]) for key in PLACES if flat.get(key) is not None})
        told = yaml.safe_dump(redact_config(config), sort_keys=False)
        texts = {CONFIG: told, identity.FINGERPRINT: fingerprint.to_json()}
        for name, text in texts.items():
            self.log_text(text, name)
        self._log_hashes({name: hashlib.sha256(redact(text).encode()).hexdigest() for name, text in texts.items()})

    def log_files(self, paths: Iterable[Path], *, root: Path) -> None:
        """Record files as artifacts, in the folders that they lie in below a root, and their hashes as tags."""
        hashes = {}
        for path in paths:
            name = path.relative_to(root)
            self.log_file(path, folder=None if name.parent == Path() else name.parent.as_posix())
            hashes[name.as_posix()] = sha256(path)
        self._log_hashes(hashes)

    def _log_hashes(self, hashes: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        log_all(self.client, self.run_id, tags=[RunTag(f"{HASHES}{key}", value) for key, value in hashes.items()])

    def log_inputs(self, datasets: "Sequence[DatasetInput]") -> None:
        """Record the data sets that a run read."""
        self.client.log_inputs(self.run_id, datasets=list(datasets))

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Record a figure as an artifact of that name."""
        self.client.log_figure(self.run_id, figure, name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in redact_values(tags).items():
            self.client.set_tag(self.run_id, key, value)


class Tracker:
    """A tracking store and one experiment in it."""

    def __init__(self, *, uri: str, artifacts: str, experiment: str, patience: float = 0.0) -> None:
        """Open the store; see `open_store`."""
        opened = open_store(uri=uri, artifacts=artifacts, experiment=experiment, patience=patience)
        self.client, self.experiment_id = opened

    def start(self, name: str, *, tags: Mapping[str, str], parent: str | None = None) -> TrackedRun:
        """Open a run.

        Args:
            name: The run's name.
            tags: Its tags; credentials in both are redacted, as in everything that is recorded.
            parent: The run it belongs to.
        """
        own = {PARENT_TAG: parent} if parent else {}
        every = {**redact_values(tags), **heartbeat_tags(), **own}
        run = self.client.create_run(self.experiment_id, run_name=redact(name), tags=every)
        return TrackedRun(client=self.client, run_id=run.info.run_id)

    @contextmanager
    def run(self, name: str, *, tags: Mapping[str, str], parent: str | None = None) -> Iterator[TrackedRun]:
        """Open a run for as long as a block runs; an exception makes it a failed one, with its reason on it."""
        run = self.start(name, tags=tags, parent=parent)
        try:
            with heartbeat(run):
                yield run
        except BaseException as error:
            # What broke may be the store: the first error is the one to report, and the run stays for `reliabit reap`.
            with suppress(ReliabitError):
                self._close_failed(run, error)
            raise
        self.client.set_terminated(run.run_id, "FINISHED")

    def _close_failed(self, run: TrackedRun, error: BaseException) -> None:
        run.set_tags({FAILURE_TYPE: type(error).__name__, FAILURE_REASON: redact(str(error))[:500]})
        if not isinstance(error, ReliabitError):
            run.log_text("".join(traceback.format_exception(error)), "traceback.txt")
        self.client.set_terminated(
            run.run_id, "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
        )

    def find_finished(self, fingerprint: str) -> "Run | None":
        """The last finished run of a fingerprint, if there is one."""
        found = [run for run in self.runs_with({FINGERPRINT_TAG: fingerprint}) if run.info.status == "FINISHED"]
        return found[-1] if found else None

    def adopt(self, run_id: str, *, parent: str, cell: str) -> None:
        """Make a finished run a cell of a sweep, its own or another one, which needs not repeat it.

        Args:
            run_id: The run.
            parent: The sweep.
            cell: The digest of the cell that asked for it; see `reliabit.identity.cell_digest`.
        """
        tags = self.client.get_run(run_id).data.tags
        if tags.get(PARENT_TAG) != parent:
            self.client.set_tag(run_id, adoption_tag(parent), REUSED)
        if tags.get(PARENT_TAG) != parent or tags.get(CELL_TAG) != cell:
            self.client.set_tag(run_id, f"{adoption_tag(parent)}.{cell}", REUSED)

    def supersede(self, cell: str, *, parent: str) -> None:
        """Take attempts at a cell that did not finish out of a sweep; MLflow keeps them among its deleted runs."""
        for run in self.runs_with({PARENT_TAG: parent, CELL_TAG: cell}):
            if run.info.status == "RUNNING" and was_queued_again(run.data.tags):
                # Its node died, and nobody else would close it before a long silence.
                self.client.set_terminated(run.info.run_id, "KILLED")
            elif run.info.status in ("FINISHED", "RUNNING"):
                continue
            self.client.delete_run(run.info.run_id)

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run was deleted in the store, from where it can be restored."""
        try:
            return str(self.client.get_run(run_id).info.lifecycle_stage) == "deleted"
        except store_errors(FileNotFoundError, ReliabitError):
            # It never was, or is no longer.
            return False

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Download an artifact of a run, a file or a folder, into a folder, and check what was hashed of it.

        Raises:
            DamagedError: A file is not the one that the run recorded, or is gone.
            ReliabitError: There is no such run, or it has no such artifact.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tags = self.client.get_run(run_id).data.tags
            found = Path(self.client.download_artifacts(run_id, name, str(folder)))
        except store_errors(OSError) as error:
            full = what_is_full(error)
            if not isinstance(error, OSError):
                full = full or self._does_not_fit(run_id, name, folder)
            if full is not None:
                raise ReliabitError(
                    f"{folder.parent}, where {name} of the run {run_id} is read to, {full}; make room there (TMPDIR "
                    "names where temporary files go)"
                ) from error
            raise ReliabitError(
                self._moved(run_id) or f"the run {run_id} has no {name} to read; was it finished?"
            ) from error
        remedy = f"the run {run_id} recorded another; restore it, or repeat with sweep.force=true"
        # Runs from before there were hashes have none.
        for tag in (tag for tag in tags if tag.startswith(HASHES)):
            recorded, expected = tag.removeprefix(HASHES), tags[tag]
            # MLflow does not say whether what is asked for by a path lies below the whole path, or its last part.
            if recorded == name:
                check_hash(found, expected, remedy=remedy)
            elif not name or recorded.startswith(f"{name}/"):
                check_hash(found / recorded.removeprefix(f"{name}/"), expected, remedy=remedy)
        return found

    def _does_not_fit(self, run_id: str, name: str, folder: Path) -> str | None:
        """What is full, if an artifact is larger than the room where it was to go; MLflow itself does not say so."""
        above, _, _ = name.rpartition("/")
        try:
            listed = self.client.list_artifacts(run_id, above or None)
        except store_errors(OSError, ReliabitError):
            return None
        free = shutil.disk_usage(folder).free
        needed = max((one.file_size or 0 for one in listed if one.path == name), default=0)
        return "has no space left" if needed > free else None

    def _moved(self, run_id: str) -> str | None:
        """What to do where the folder is gone in which a store on this machine keeps all artifacts.

        A store names that folder in full, once and for all.
        """
        try:
            address = urlsplit(str(self.client.get_run(run_id).info.artifact_uri))
        except store_errors(OSError, ReliabitError):
            return None
        # <artifacts>/<run>/artifacts, by MLflow's own layout.
        folder = Path(unquote(address.path)).parent.parent
        if address.scheme not in ("", "file") or folder.is_dir():
            return None
        return (
            f"the files of the run {run_id} should lie in {folder}, which is gone; if the project was moved, its store "
            f"still names the old place: move it back, or leave a link there (mkdir -p {folder.parent} && "
            f"ln -s <project>/mlruns/artifacts {folder})"
        )

    def fetch_all(self, run_id: str, folder: Path) -> None:
        """Download every artifact of a run into a folder; see `fetch`."""
        self.fetch(run_id, "", folder)

    def children(self, parent: str) -> "list[Run]":
        """The runs that belong to a run, oldest first: its own, and those that it adopted."""
        members = [*self.runs_with({PARENT_TAG: parent}), *self.runs_with({adoption_tag(parent): REUSED})]
        unique = {run.info.run_id: run for run in members}
        return sorted(unique.values(), key=lambda run: int(run.info.start_time))

    def runs_with(self, tags: Mapping[str, str]) -> "list[Run]":
        """All runs that carry some tags, oldest first."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        search, order = self.client.search_runs, ["attributes.start_time ASC"]
        return list(all_pages(search, [self.experiment_id], filter_string=wanted, order_by=order))


class Journal(Tracker):
    """A tracker that writes to a folder."""

    def __init__(self, folder: Path) -> None:
        """Open the journal in a folder, which is made where it is missing.

        Raises:
            ReliabitError: The folder cannot be written to.
        """
        self.folder = folder
        self.client = JournalClient(folder)
        self.experiment_id = EXPERIMENT


def open_tracker(tracking: TrackingConfig) -> Tracker:
    """Open what a configuration names to record runs in: a tracking store, or a journal.

    Raises:
        ReliabitError: The store cannot be opened, or the journal's folder cannot be written.
    """
    if tracking.uri.startswith(JOURNAL):
        return Journal(Path(tracking.uri.removeprefix(JOURNAL)))
    # The server answered when the sweep began, so for a cell of it one that does not is only restarted.
    patience = RESTART_SECONDS if tracking.parent_file is not None else 0.0
    return Tracker(uri=tracking.uri, artifacts=tracking.artifacts, experiment=tracking.experiment, patience=patience)
