"""The tags of runs: what a run is, what it belongs to, and what one that is brought from elsewhere may not say.

A run is told to be an attempt at a promotion, the import of a journal, or the result of the versioned pipeline by its
tags. So these are written by the code that does it, and by nobody else's file.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reliabit import identity
from reliabit.tracking.context import COMMIT, REPOSITORY

if TYPE_CHECKING:
    from mlflow.entities import Run

KIND = "kind"
KINDS = ("cell", "sweep")
"""What a run that is brought from elsewhere may be."""

FINGERPRINT_TAG = identity.TAG
CELL_TAG = identity.CELL_TAG
PARENT_TAG = "mlflow.parentRunId"
REUSED = "reused"

HASHES = "sha256."
"""How the tags begin that hold the hash of a file that is read again, apart from the file: its name follows."""

FAILURE_TYPE, FAILURE_REASON = "failure.type", "failure.reason"
KILLED = "Killed"
"""The failure type of a run that could not say so itself."""

RESERVED = ("journal.", "promotion.", "dvc.results", "dvc.dirty")
"""How tags begin that only whoever imports, promotes or reads results sets."""

NOTE = "mlflow.note.content"
"""MLflow's tag of a description, which its UI shows; see `reliabit.tracking.ui.notes`."""

CHOSEN = "chosen"
"""The run that the policy would choose among a sweep's cells."""

PLACES = ("model.path", "model.revision", "data.root", "engine.url")
"""Keys of the configuration that name places: tags and no parameters, as the UI compares runs by their parameters."""

MLFLOW = "mlflow."
OF_MLFLOW = (PARENT_TAG, COMMIT, REPOSITORY)
"""Tags of MLflow's own that runs are recorded with; others decide what its pages and its registry make of a run."""


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


def reserved_tag(tags: Mapping[str, str]) -> str | None:
    """A tag that a run from elsewhere may not have, if it has one.

    >>> reserved_tag({"kind": "cell", "bits": "4"}) is None
    True
    >>> reserved_tag({"promotion.number": "1"}), reserved_tag({"kind": "promotion"}), reserved_tag({"mlflow.user": "x"})
    ('promotion.number', 'kind=promotion', 'mlflow.user')
    """
    for key, value in tags.items():
        if key == KIND and value not in KINDS:
            return f"{key}={value[:40]}"
        if key.startswith(RESERVED) or (key.startswith(MLFLOW) and key not in OF_MLFLOW):
            return key
    # The address of a repository holds its user's name, or a token.
    return REPOSITORY if tags.get(REPOSITORY) else None
