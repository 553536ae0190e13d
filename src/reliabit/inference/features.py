"""The features file: pooled states of every question beside its prediction, written as they come.

A folder with one array a block (`image.npy`, `question.npy`, `first.npy`; `[questions, width]`) whose rows are those of
the predictions table, and `features.json`. A hundred thousand questions of a 3584-wide model take 2.1 GB in float16;
neither writing nor reading holds them in memory. Every file is checked against its hash before it is used.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from reliabit.errors import DamagedError, NotFiniteError, ReliabitError
from reliabit.files import check_hash, read_sealed, sealed, staged_folder
from reliabit.inference.settings import FeatureSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

FEATURES = "features"
"""The name of the folder among what a run writes."""

BLOCKS = ("image", "question", "first")
KEY_COLUMNS = ("source", "split", "shift", "question_id")
RECORD = "features.json"
VERSION = 2
"""2: each block with its hash."""

REMEDY = "run task=answer again"

ANSWERED_BY = b"reliabit.answered_by"
"""Where a predictions table's metadata says what its answers depend on; its features must say the same."""


class StateSink(Protocol):
    """Whoever wants the pooled states of questions as they are answered."""

    @property
    def settings(self) -> FeatureSettings:
        """Which states."""

    def append(self, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the states of the next questions: arrays of `[questions, width]` by the names in `BLOCKS`."""


class FeatureWriter:
    """Appends rows to the blocks of a features folder.

    Args:
        folder: Where to.
        rows: How many rows there will be.
        settings: The type to store.
    """

    def __init__(self, folder: Path, *, rows: int, settings: FeatureSettings) -> None:
        self.folder = folder
        self.rows = rows
        self.settings = settings
        self.written = 0
        self.widths: dict[str, int] = {}
        self._hashes: dict[str, Any] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()

    def append(self, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the next rows.

        Args:
            blocks: Arrays of `[questions, width]` by the names in `BLOCKS`.

        Raises:
            ReliabitError: A value is not finite, or does not fit the type.
        """
        for name in BLOCKS:
            values = self._stored(blocks[name], block=name)
            if name not in self._files:
                self._start(name, width=values.shape[1])
            self._put(name, values.tobytes())
        self.written += len(blocks[BLOCKS[0]])

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each block's file, as far as it is written."""
        return {name: found.hexdigest() for name, found in self._hashes.items()}

    def close(self) -> None:
        """Close the files."""
        self._open.close()

    def _start(self, name: str, *, width: int) -> None:
        file = self._open.enter_context((self.folder / f"{name}.npy").open("wb"))
        header = {"descr": np.dtype(self.settings.dtype).str, "fortran_order": False, "shape": (self.rows, width)}
        # The header is written first because the number of rows is known: rows can then follow one by one.
        written = BytesIO()
        np.lib.format.write_array_header_1_0(written, header)
        self._files[name], self._hashes[name], self.widths[name] = file, sha256(), width
        self._put(name, written.getvalue())

    def _put(self, name: str, content: bytes) -> None:
        self._files[name].write(content)
        self._hashes[name].update(content)

    def _stored(self, values: npt.NDArray[Any], *, block: str) -> npt.NDArray[Any]:
        if not np.isfinite(values).all():
            raise NotFiniteError(f"the {block} states of question {self.written + _bad_row(values)} are not finite")
        with np.errstate(over="ignore"):
            stored = values.astype(self.settings.dtype)
        if not np.isfinite(stored).all():
            raise ReliabitError(
                f"the {block} states of question {self.written + _bad_row(stored)} reach {np.abs(values).max():.0f}, "
                f"too large for {self.settings.dtype}; set confidence.features.dtype=float32"
            )
        return stored


@contextmanager
def feature_writer(
    folder: Path, *, keys: "pa.Table", settings: FeatureSettings, identity: str = ""
) -> Iterator[FeatureWriter]:
    """Write a features folder that appears whole or not at all.

    Args:
        folder: Where to.
        keys: The questions in the order in which their rows will come, with `KEY_COLUMNS`.
        settings: Which states, and their type.
        identity: A digest of what the states depend on beside the questions.

    Raises:
        ReliabitError: Fewer or more rows came than there are questions.
    """
    with staged_folder(folder) as staging:
        writer = FeatureWriter(staging, rows=keys.num_rows, settings=settings)
        try:
            yield writer
        finally:
            writer.close()
        if writer.written != keys.num_rows:
            raise ReliabitError(f"{writer.written} feature rows do not belong to {keys.num_rows} questions")
        record = {
            "version": VERSION,
            "rows": keys.num_rows,
            "widths": writer.widths,
            "layer": settings.layer,
            "dtype": settings.dtype,
            "keys_sha256": _keys_digest(keys),
            "identity": identity,
            "sha256": writer.hashes(),
        }
        (staging / RECORD).write_bytes(sealed(record, indent=2))


def read_features(folder: Path, *, predictions: "pa.Table") -> dict[str, npt.NDArray[Any]]:
    """Map the features of a predictions table into memory, after all of them were checked against their hashes.

    Args:
        folder: The features folder.
        predictions: The table that was written with it.

    Returns:
        Arrays of `[questions, width]` by block, in the order of the table.

    Raises:
        DamagedError: A file is missing or not as it was written.
        ReliabitError: There is no such folder, or the features are of other questions or another format.
    """
    check_features(folder)
    record = _read_record(folder / RECORD)
    metadata = predictions.schema.metadata or {}
    answered_by = metadata.get(ANSWERED_BY, record["identity"].encode()).decode()
    if record["keys_sha256"] != _keys_digest(predictions) or record["identity"] != answered_by:
        raise ReliabitError(f"the features in {folder} are not of these predictions; {REMEDY}")
    for name in BLOCKS:
        check_hash(folder / f"{name}.npy", record["sha256"][name], remedy=REMEDY)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in BLOCKS}


def _read_record(path: Path) -> dict[str, Any]:
    """The record of a features folder; those of other formats are told from those that are damaged."""
    try:
        return read_sealed(path, remedy=REMEDY)
    except DamagedError:
        found = _version_of(path)
        if found in (None, VERSION):
            raise
        raise ReliabitError(
            f"{path} is of format {found} and this Reliabit reads {VERSION}, which carries hashes; {REMEDY}"
        ) from None


def _version_of(path: Path) -> object:
    try:
        content = json.loads(path.read_bytes())
        return content.get("version") if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


def check_features(folder: Path) -> None:
    """Check that there are features in a folder, without reading them.

    Raises:
        ReliabitError: There are none.
    """
    if not (folder / RECORD).is_file():
        raise ReliabitError(f"{folder} holds no features; run task=answer with a confidence that needs them")


def keys_of(questions: "Dataset") -> "pa.Table":
    """Which questions a VQA table holds, as features are known by."""
    return questions.select_columns(list(KEY_COLUMNS)).with_format("arrow")[:]


def _keys_digest(table: "pa.Table") -> str:
    """A digest of which questions a table is about, in order."""
    digest = sha256()
    for batch in table.select(list(KEY_COLUMNS)).to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update("\x1f".join(row).encode() + b"\x1e")
    return digest.hexdigest()


def _bad_row(values: npt.NDArray[Any]) -> int:
    return int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
