"""The tracker: the only code that writes runs. A run that it opens always ends, as finished or as failed."""

import hashlib
import json
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
from reliabit.files import check_hash, replacing, sha256
from reliabit.tracking.heartbeat import heartbeat, heartbeat_tags
from reliabit.tracking.redaction import redact, redact_config, redact_values
from reliabit.tracking.store import open_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

PARAMETERS_A_CALL = 100
METRICS_A_CALL = 1000
TAGS_A_CALL = 100

FINGERPRINT_TAG = identity.TAG
CELL_TAG = identity.CELL_TAG

CONFIG = "config.yaml"
"""The artifact that holds a run's configuration."""

HASH_TAG = "sha256"
"""The tag `sha256.<artifact>` of a run: the hash of a file that is read again, kept apart from the file itself."""

REUSED = "reused"
PARENT_TAG = "mlflow.parentRunId"


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
        for start in range(0, len(parameters), PARAMETERS_A_CALL):
            self.client.log_batch(self.run_id, params=parameters[start : start + PARAMETERS_A_CALL])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics in few calls; an infinite one, which MLflow would store as a huge number, as not a number."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value if math.isfinite(value) else math.nan for name, value in metrics.items()}
        found = [Metric(name, value, now, step) for name, value in finite.items()]
        for start in range(0, len(found), METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=found[start : start + METRICS_A_CALL])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Record a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def log_text(self, text: str, name: str) -> None:
        """Record a text as an artifact of that name."""
        self.client.log_text(self.run_id, redact(text), name)

    def log_identity(self, config: Mapping[str, Any], *, fingerprint: identity.Fingerprint) -> None:
        """Record what is run: the configuration, as parameters and as `config.yaml`, and its fingerprint."""
        self.log_parameters(config)
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

        tags = [RunTag(f"{HASH_TAG}.{name}", digest) for name, digest in hashes.items()]
        for start in range(0, len(tags), TAGS_A_CALL):
            self.client.log_batch(self.run_id, tags=tags[start : start + TAGS_A_CALL])

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

    def __init__(self, *, uri: str, artifacts: str, experiment: str) -> None:
        """Open the store; see `open_store`."""
        self.client, self.experiment_id = open_store(uri=uri, artifacts=artifacts, experiment=experiment)

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
        run.set_tags({"failure.type": type(error).__name__, "failure.reason": redact(str(error))[:500]})
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
            if run.info.status not in ("FINISHED", "RUNNING"):
                self.client.delete_run(run.info.run_id)

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run was deleted in the store, from where it can be restored."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_run(run_id).info.lifecycle_stage) == "deleted"
        except (MlflowException, FileNotFoundError, ReliabitError):
            # It never was, or is no longer.
            return False

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Download an artifact of a run, a file or a folder, into a folder, and check what was hashed of it.

        Raises:
            DamagedError: A file is not the one that the run recorded, or is gone.
            ReliabitError: There is no such run, or it has no such artifact.
        """
        from mlflow.exceptions import MlflowException

        folder.mkdir(parents=True, exist_ok=True)
        try:
            hashes = _hashes_of(self.client.get_run(run_id))
            found = Path(self.client.download_artifacts(run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            full = what_is_full(error)
            if isinstance(error, MlflowException):
                full = full or self._does_not_fit(run_id, name, folder)
            if full is not None:
                raise ReliabitError(
                    f"{folder.parent}, where {name} of the run {run_id} is read to, {full}; make room there (TMPDIR "
                    "names where temporary files go)"
                ) from error
            raise ReliabitError(
                self._moved(run_id) or f"the run {run_id} has no {name} to read; was it finished?"
            ) from error
        for recorded, expected in hashes.items():
            # MLflow does not say whether what is asked for by a path lies below the whole path, or its last part.
            if recorded == name:
                _check_recorded(found, expected, run_id=run_id)
            elif not name or recorded.startswith(f"{name}/"):
                _check_recorded(found / recorded.removeprefix(f"{name}/"), expected, run_id=run_id)
        return found

    def _does_not_fit(self, run_id: str, name: str, folder: Path) -> str | None:
        """What is full, if an artifact is larger than the room where it was to go; MLflow itself does not say so."""
        from mlflow.exceptions import MlflowException

        above, _, _ = name.rpartition("/")
        try:
            listed = self.client.list_artifacts(run_id, above or None)
        except (MlflowException, OSError, ReliabitError):
            return None
        free = shutil.disk_usage(folder).free
        needed = max((one.file_size or 0 for one in listed if one.path == name), default=0)
        return "has no space left" if needed > free else None

    def _moved(self, run_id: str) -> str | None:
        """What to do where the folder is gone in which a store on this machine keeps all artifacts.

        A store names that folder in full, once and for all.
        """
        from mlflow.exceptions import MlflowException

        try:
            address = urlsplit(str(self.client.get_run(run_id).info.artifact_uri))
        except (MlflowException, OSError, ReliabitError):
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
        found: list[Run] = []
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=wanted,
                order_by=["attributes.start_time ASC"],
                page_token=token or None,
            )
            found += page
            token = page.token or None
        return found


def _hashes_of(run: "Run") -> dict[str, str]:
    """The hash of each file that a run recorded one of, by the artifact's path; none in runs from before there were."""
    prefix = f"{HASH_TAG}."
    return {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}


def _check_recorded(path: Path, expected: str, *, run_id: str) -> None:
    check_hash(path, expected, remedy=f"the run {run_id} recorded another; restore it, or repeat with sweep.force=true")


def adoption_tag(parent: str) -> str:
    """The tag that a finished run carries for each sweep that reused it."""
    return f"sweep.{parent}"


def cell_tags_of(runs: "Iterable[Run]", *, parent: str) -> set[str]:
    """The digests of the cells of a sweep that some runs are; one run may be several, where their inputs are equal.

    Args:
        runs: Runs that belong to it.
        parent: The sweep.
    """
    found: set[str] = set()
    prefix = f"{adoption_tag(parent)}."
    for run in runs:
        tags = run.data.tags
        adopted = {name.removeprefix(prefix) for name in tags if name.startswith(prefix)}
        own = tags.get(PARENT_TAG) == parent or not adopted
        found |= adopted | ({tags.get(CELL_TAG, run.info.run_id)} if own else set())
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into dotted keys.

    >>> flatten({"quant": {"bits": 4}, "seed": 0})
    {'quant.bits': 4, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parent_file(sweep_folder: Path) -> Path:
    """Where a sweep leaves word of its parent run for its cells."""
    return sweep_folder / "mlflow_parent.json"


def write_parent(path: Path, run_id: str) -> None:
    """Leave word of a sweep's parent run."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({"run_id": run_id}))


def read_parent(path: str | None) -> str | None:
    """The parent run of the sweep that a cell belongs to, or `None` outside a sweep.

    Raises:
        ReliabitError: The file that names it is gone.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        raise ReliabitError(
            f"{path}, which names the sweep's parent run, is gone; go on with the sweep in a folder of its own: "
            "sweep.resume=last"
        )
    return str(json.loads(Path(path).read_text())["run_id"])
