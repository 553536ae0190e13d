"""What every run is stamped with, in a notebook too: the commit, whether it was all of the code, data and job ids.

MLflow loads `ReliabitRunContext` as a plug-in and asks it whenever a run is started through `mlflow.start_run`; our own
tracker asks `context_tags`. This module does not import MLflow: loading it as MLflow's plug-in would be a circle.
"""

import logging
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from reliabit.files import sha256
from reliabit.paths import project_root

COMMIT = "mlflow.source.git.commit"
"""MLflow's own tag, which its UI shows."""

REPOSITORY = "mlflow.source.git.repoURL"
"""MLflow fills this in with the remote's address, credentials and all; it is blanked."""

DIRTY = "git.dirty"
"""`true`, `false`, or `unknown` where git did not answer in time; only a clean run can be promoted."""

UNTRACKED = "?"
SOURCES, CODE = ("src/", "conf/", "models/"), (".py", ".yaml", ".yml", ".toml", ".sh")
"""Where files that git does not know count, and those that count wherever they lie."""

DVC_LOCK = "dvc.lock.sha256"

SLURM = {
    "SLURM_JOB_ID": "slurm.job_id",
    "SLURM_ARRAY_JOB_ID": "slurm.array_job_id",
    "SLURM_ARRAY_TASK_ID": "slurm.array_task_id",
    "SLURM_STEP_ID": "slurm.step_id",
    "SLURM_RESTART_COUNT": "slurm.restart_count",
}

GIT_SECONDS = 2.0
FRESH_SECONDS = 5.0
"""So long an answer of git's is used again: cells start in bursts, and in a notebook the code changes between runs."""

_log = logging.getLogger(__name__)
_answers: dict[Path, tuple[float, dict[str, str]]] = {}


class ReliabitRunContext:
    """The plug-in, by the protocol of `mlflow.tracking.context.abstract_context.RunContextProvider`."""

    def in_context(self) -> bool:
        """Always: every run has a context."""
        return True

    def tags(self) -> dict[str, str]:
        """The tags of this moment."""
        return context_tags()


def context_tags(root: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The commit and dirtiness of a project, the hash of its `dvc.lock`, and the ids of the Slurm job.

    Never fails and takes some milliseconds; what cannot be found out is left out. Remotes are not read.

    Args:
        root: The project's folder; the one this code lies in, or the current one, by default.
        environ: The environment.
    """
    try:
        folder = (root or project_root()).resolve()
        return {**_git(folder), **_lock(folder), **slurm_tags(environ)}
    except Exception as error:
        _log.debug("the context of the run is unknown: %s", error)
        return {}


def slurm_tags(environ: Mapping[str, str]) -> dict[str, str]:
    """The ids of the Slurm job that an environment tells of.

    >>> slurm_tags({"SLURM_JOB_ID": "17", "HOME": "/root"})
    {'slurm.job_id': '17'}
    """
    return {tag: environ[name] for name, tag in SLURM.items() if environ.get(name)}


def was_queued_again(tags: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a run is of an earlier attempt of this very Slurm job, which has ended where the job began again.

    >>> was_queued_again({"slurm.job_id": "17"}, environ={"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"})
    True
    """
    job, restarts = environ.get("SLURM_JOB_ID"), environ.get("SLURM_RESTART_COUNT", "0")
    return bool(job) and tags.get("slurm.job_id") == job and int(tags.get("slurm.restart_count", "0")) < int(restarts)


def _git(folder: Path) -> dict[str, str]:
    known = _answers.get(folder)
    if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
        return known[1]
    found = _ask_git(folder)
    _answers[folder] = (time.monotonic(), found)
    return found


def _ask_git(folder: Path) -> dict[str, str]:
    # One call tells both; no lock is taken, no prompt shown, and no program that the repository names is run.
    git = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 -- a fixed command
            [*git, "status", "--porcelain=v2", "--branch", "-uall"],
            cwd=folder,
            env={**environment, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {DIRTY: "unknown", REPOSITORY: ""}
    except (OSError, subprocess.CalledProcessError):
        return {}
    lines = done.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    changed = any(_counts(line) for line in lines if not line.startswith("#"))
    # A repository without a commit calls it "(initial)".
    stamped = {COMMIT: commit} if commit.isalnum() else {}
    return {**stamped, DIRTY: "true" if changed or not stamped else "false", REPOSITORY: ""}


def _counts(line: str) -> bool:
    """Whether a line of git's says that the code is not that of the commit: a bundle that was pulled is no code."""
    kind, _, path = line.partition(" ")
    return kind != UNTRACKED or path.strip('"').startswith(SOURCES) or Path(path.strip('"')).suffix in CODE


def _lock(folder: Path) -> dict[str, str]:
    path = folder / "dvc.lock"
    return {DVC_LOCK: sha256(path)} if path.is_file() else {}
