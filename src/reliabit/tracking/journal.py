"""`tracking=offline`: runs recorded in a folder, where no server can be reached, until they are imported.

See `reliabit.tracking.journal_sync` for the import.
"""

from pathlib import Path

from reliabit.tracking.journal_client import EXPERIMENT, JournalClient
from reliabit.tracking.tracker import Tracker


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
