"""`paths`: where files lie."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from reliabit.errors import ReliabitError
from reliabit.settings import positive


@dataclass
class PathsConfig:
    """Where files lie.

    Attributes:
        root: The project's folder.
        data: Prepared tables.
        cache: What several runs share.
        cache_gib: So much of it stays; what was of no use for longest goes first.
        output: What the task writes; where it is null, the folder that Hydra gives the job.
    """

    root: str = MISSING
    data: str = MISSING
    cache: str = MISSING
    cache_gib: float = positive()
    output: str | None = None

    def cache_bytes(self) -> int:
        """The room below `cache`."""
        return int(self.cache_gib * 2**30)

    def output_folder(self) -> Path:
        """The folder that the task writes to.

        Raises:
            ReliabitError: It is not set.
        """
        if self.output is None:
            raise ReliabitError("paths.output is null; name the folder to write to")
        return Path(self.output)
