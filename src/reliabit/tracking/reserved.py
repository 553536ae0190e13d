"""Tags that say something of a store itself: whoever brings runs from elsewhere must not bring these along.

A run is told to be an attempt at a promotion, the import of a journal, or the result of the versioned pipeline by its
tags. So these are written by the code that does it, and by nobody else's file.
"""

from collections.abc import Mapping

from reliabit.tracking.context import COMMIT, REPOSITORY
from reliabit.tracking.tracker import PARENT_TAG

KIND = "kind"
KINDS = ("cell", "sweep")
"""What a run that is brought from elsewhere may be."""

RESERVED = ("journal.", "promotion.", "dvc.results", "dvc.dirty")
"""How tags begin that only whoever imports, promotes or reads results sets."""

MLFLOW = "mlflow."
OF_MLFLOW = (PARENT_TAG, COMMIT, REPOSITORY)
"""Tags of MLflow's own that runs are recorded with; others decide what its pages and its registry make of a run."""


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
