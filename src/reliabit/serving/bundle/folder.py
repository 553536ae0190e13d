"""The bundle: one folder with everything that serving a promoted configuration takes, and nothing that is a pickle.

bundle.json          the `Description`
checkpoint/          a Hugging Face folder with its processor
selector/            the Selector, where it is the confidence
calibration.parquet  confidence and accuracy of the split `cal`: the certificates' sample
README.md            the model card
manifest.json        size and SHA-256 of every other file
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.manifest import copy_verified, write_manifest

if TYPE_CHECKING:
    import pyarrow as pa

BUNDLE = "bundle.json"
CHECKPOINT = "checkpoint"
SELECTOR = "selector"
CALIBRATION = "calibration.parquet"
CARD = "README.md"
COLUMNS = ("confidence", "accuracy")

PICKLED = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of files that libraries unpickle."""


def write_bundle(
    folder: Path,
    *,
    description: Description,
    checkpoint: Path,
    selector: Path | None,
    calibration: tuple[FloatArray, FloatArray],
    card: str,
) -> None:
    """Write a bundle that appears whole or not at all; one that is there already is replaced.

    Args:
        folder: Where to.
        description: What it says of itself.
        checkpoint: A Hugging Face folder, quantized or not, with its processor; its files are copied.
        selector: The folder of the Selector, where `description.confidence` is one.
        calibration: Confidence and accuracy of each calibration answer, `[N]` in [0, 1].
        card: The text of `README.md`.

    Raises:
        ReliabitError: The parts do not go together, are missing, or hold a pickle.
    """
    if (selector is None) != (description.confidence == "maxprob"):
        have = "none was given" if selector is None else f"{selector} was given"
        raise ReliabitError(f"the bundle's confidence is {description.confidence} and {have}; make the two agree")
    if not (checkpoint / "config.json").is_file():
        raise ReliabitError(f"{checkpoint} is no checkpoint: it has no config.json")
    import pyarrow.parquet as pq

    table = _calibration_table(*calibration)
    with staged_folder(folder) as staging:
        _copy(checkpoint, staging / CHECKPOINT)
        if selector is not None:
            _copy(selector, staging / SELECTOR)
        pq.write_table(table, staging / CALIBRATION, compression="zstd")
        (staging / CARD).write_text(card, encoding="utf-8")
        (staging / BUNDLE).write_text(description.to_json(), encoding="utf-8")
        _refuse_pickles(staging)
        write_manifest(staging)


@contextmanager
def verified_snapshot(folder: Path, *, digest: str | None = None) -> Iterator[Path]:
    """A private copy of a bundle, verified as it is made and gone when the block ends; everything is loaded from it.

    Nobody else can change it, or put another in its place, between the check and the loading, nor while what was loaded
    is still mapped into memory. It takes the bundle's size in the system's folder for temporary files (`TMPDIR`), until
    nothing of it is mapped any more.

    Args:
        folder: The bundle.
        digest: What its `manifest_digest` must be, as it is kept elsewhere; `None` where nobody keeps it.

    Raises:
        ReliabitError: The manifest is not that one, a file is missing, was added, differs or is a pickle, or there is
            no room.
    """
    with TemporaryDirectory(prefix="reliabit-bundle-") as place:
        private = Path(place)
        try:
            copy_verified(folder, private, digest=digest)
            _refuse_pickles(private)
            yield private
        except ReliabitError as error:
            # The reader knows the bundle, and the copy is gone by then.
            error.args = (str(error).replace(str(private), str(folder)),)
            raise


def read_description(folder: Path) -> Description:
    """What a bundle says of itself.

    Raises:
        ReliabitError: There is no bundle in the folder, or its description cannot be read.
    """
    try:
        text = (folder / BUNDLE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReliabitError(f"{folder / BUNDLE} cannot be read ({error}); name the folder of a bundle") from error
    return Description.from_json(text)


def read_calibration(folder: Path) -> tuple[FloatArray, FloatArray]:
    """Confidence and accuracy of each calibration answer of a bundle, `[N]` each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / CALIBRATION
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ReliabitError(f"{path} cannot be read ({error}); pull the bundle again") from error
    confidence, accuracy = (table[name].to_numpy().astype(np.float64) for name in COLUMNS)
    return confidence, accuracy


def _refuse_pickles(folder: Path) -> None:
    """Check that no file below a folder has the name of a pickle; a ReliabitError where one has."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLED:
            name = path.relative_to(folder)
            raise ReliabitError(f"{name} may hold a pickle, which a bundle never does; save the model as safetensors")


def _copy(source: Path, destination: Path) -> None:
    if not source.is_dir():
        raise ReliabitError(f"{source} does not exist, and the bundle needs it; write it first")
    # Contents alone: links become files, and permissions those of a new file.
    ignored = shutil.ignore_patterns(".git*", ".cache", "__pycache__")
    shutil.copytree(source, destination, copy_function=shutil.copyfile, ignore=ignored)


def _calibration_table(confidence: FloatArray, accuracy: FloatArray) -> "pa.Table":
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, values in zip(COLUMNS, (confidence, accuracy), strict=True):
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or not array.size or array.shape != np.shape(confidence):
            raise ReliabitError(
                f"the calibration sample's {name} has the shape {array.shape}; give one value an answer"
            )
        if not ((array >= 0) & (array <= 1)).all():
            raise ReliabitError(f"the calibration sample's {name} leaves [0, 1]; take it from a predictions table")
        columns[name] = array
    return pa.table(columns)
