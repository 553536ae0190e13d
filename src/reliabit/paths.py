"""Where files lie: the project's folder, its configuration, and what a run reads, shares and writes."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from reliabit.errors import ReliabitError
from reliabit.settings import positive


def conf_folder() -> Path:
    """The configuration folder: the project's, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent
    project = package.parents[1] / "conf"
    return project if (project / "config.yaml").is_file() else package / "conf"


def project_root() -> Path:
    """The project's folder, or the current one where the package is installed on its own."""
    project = Path(__file__).resolve().parents[2]
    return project if (project / "conf" / "config.yaml").is_file() else Path.cwd()


def models_folder() -> Path:
    """The folder of the reference models: the project's, or the copies that an installed package carries."""
    return conf_folder().parent / "models"


def run_command() -> str:
    """How a task is run, to be shown: by the project's script, or where there is none by the package's command."""
    return "python src/run.py" if (project_root() / "src" / "run.py").is_file() else "reliabit run"


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
