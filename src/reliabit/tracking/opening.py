"""Opening what a configuration names to record runs in: a tracking store, or a journal."""

from pathlib import Path

from reliabit.tracking.address import JOURNAL
from reliabit.tracking.journal import Journal
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.tracker import Tracker


def open_tracker(tracking: TrackingConfig) -> Tracker:
    """Open the tracker of a configuration.

    Raises:
        ReliabitError: The store cannot be opened, or the journal's folder cannot be written.
    """
    if tracking.uri.startswith(JOURNAL):
        return Journal(Path(tracking.uri.removeprefix(JOURNAL)))
    return Tracker(uri=tracking.uri, artifacts=tracking.artifacts, experiment=tracking.experiment)
