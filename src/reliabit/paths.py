"""Where files lie: the project's folder, its configuration, and what a run reads, shares and writes."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from reliabit.errors import ReliabitError
from reliabit.settings import positive

_PACKAGE = Path(__file__).resolve().parent
_PROJECT = _PACKAGE.parents[1]


def in_checkout() -> bool:
    """Whether this code lies in a project's folder, and not where packages are installed."""
    return (_PROJECT / "conf" / "config.yaml").is_file()


def conf_folder() -> Path:
    """The configuration folder: the project's, or the copy that an installed package carries."""
    return _PROJECT / "conf" if in_checkout() else _PACKAGE / "conf"


def models_folder() -> Path:
    """The folder of the reference models: the project's, or the copies that an installed package carries."""
    # Within the package, `models` is the code that loads them.
    return _PROJECT / "models" if in_checkout() else _PACKAGE / "reference_models"


def project_root() -> Path:
    """The project's folder, or the current one where the package is installed on its own."""
    return _PROJECT if in_checkout() else Path.cwd()


def run_command() -> str:
    """How a task is run, to be shown: by the project's script, or where there is none by the package's command."""
    return "python src/run.py" if in_checkout() else "reliabit run"


@dataclass
class PathsConfig:
    """`paths`: where files lie.

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
