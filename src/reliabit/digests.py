"""Content digests of what a run is made of: checkpoints, tables, source code, and the versions of libraries."""

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reliabit.code_graph import PACKAGE, module_digests
from reliabit.data.prepared_table import MANIFEST, columns_digest, read_manifest
from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import read_sealed, replacing, sealed, sha256

BY_VALUE = (
    # An identity holds the values of a configuration themselves: code that reads or checks them need not count.
    "reliabit.config",
    "reliabit.quant.settings",
    "reliabit.settings",
    "reliabit.composition",
    "reliabit.config_errors",
    # How an identity is computed shows in the identity.
    "reliabit.identity",
    "reliabit.digests",
    "reliabit.code_graph",
    # What is shown of a run, meanwhile and at its end, changes nothing of it.
    "reliabit.progress",
    "reliabit.terminal",
    "reliabit.tasks._results",
    # How a process begins and ends, and on how many threads it computes, decides no number; `trainer.threads` is not
    # part of an identity either.
    "reliabit.process",
    "reliabit.threads",
)
"""Modules that results import, and whose part in them an identity holds as a value: their code need not count."""

LIBRARIES = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "scikit-learn",
    "hqq",
    "datasets",
    "pillow",
    "lightning",
    "tokenizers",
)

SETTLED_SECONDS = 2.0
"""A file that was changed less than this ago may change again within the same time stamp; its digest is not kept."""


@dataclass(frozen=True)
class _State:
    """What tells that a file has not changed; the inode's own time catches copies that keep the modification time."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class DigestCache:
    """SHA-256 of files, kept by path, size and time stamps, so that 15 GB of weights are hashed once.

    Each file has a record of its own that is replaced whole, so processes may share the folder without a lock.

    Attributes:
        folder: Where digests are kept.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.txt")
        ...     _ = path.write_text("a")
        ...     DigestCache(Path(folder, "digests")).sha256(path)[:8]
        'ca978112'
    """

    folder: Path

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file, in hexadecimal.

        Raises:
            ReliabitError: The file cannot be read.
        """
        try:
            before = _state(path)
            record = self.folder / f"{hashlib.sha256(before.path.encode()).hexdigest()[:32]}.json"
            known = _read_record(record, before)
            if known is not None:
                return known
            digest = sha256(path)
            after = _state(path)
        except OSError as error:
            raise ReliabitError(f"{path} cannot be read ({error.strerror}); restore it or correct the path") from error
        if after == before and time.time() - max(after.mtime_ns, after.ctime_ns) / 1e9 > SETTLED_SECONDS:
            with replacing(record) as unfinished:
                unfinished.write_bytes(sealed({"state": asdict(after), "sha256": digest}))
        return digest

    def files(self, folder: Path, *, wanted: Callable[[Path], bool] = lambda _: True) -> dict[str, str]:
        """The SHA-256 of the files below a folder, by path relative to it; hidden ones are left out.

        Args:
            folder: The folder.
            wanted: Which files count, by path relative to the folder.

        Raises:
            ReliabitError: It is no folder, or holds none of the files.
        """
        found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
        counted = {
            relative.as_posix(): self.sha256(path)
            for relative, path in found.items()
            if wanted(relative) and not any(part.startswith(".") for part in relative.parts)
        }
        if not counted:
            raise ReliabitError(f"{folder} holds no files to identify; correct the path")
        return counted


def combined(digests: Mapping[str, str]) -> str:
    """One digest of named digests, whatever their order.

    >>> combined({"a": "1", "b": "2"}) == combined({"b": "2", "a": "1"}) != combined({"a": "2", "b": "1"})
    True
    """
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def checkpoint_inputs(folder: Path, *, cache: DigestCache, name: str = "model") -> dict[str, str]:
    """The contents of a checkpoint folder: weights, configuration, tokenizer and processor, but not its texts.

    Raises:
        ReliabitError: The folder is missing or empty.
    """
    found = cache.files(folder, wanted=lambda path: path.suffix != ".md")
    return {f"{name}/{path}": digest for path, digest in found.items()}


def table_inputs(folder: Path, *, cache: DigestCache, name: str) -> dict[str, str]:
    """The contents of a prepared table, split by split, and of columns beside it, checked against its manifest.

    Raises:
        ReliabitError: The folder is no prepared table, or a split is missing or not the one that was written.
    """
    found = {}
    for split, record in read_manifest(folder).items():
        path = folder / f"{split}.parquet"
        if not path.is_file() or cache.sha256(path) != record.sha256:
            raise ReliabitError(
                f"{path} is missing or differs from its hash in {MANIFEST}; delete {folder} and run task=prepare again"
            )
        found[f"{name}/{split}"] = record.sha256
    columns = columns_digest(folder)
    return found if columns is None else {**found, f"{name}/columns": columns}


def code_digests(entries: Sequence[str], *, by_value: Sequence[str] = (), package: Path = PACKAGE) -> dict[str, str]:
    """The digests of all modules that a result depends on, by path within the package; see `reliabit.code_graph`.

    Args:
        entries: The modules that compute the result.
        by_value: Modules whose part in it the identity holds as a value, beside `BY_VALUE`.
        package: The package's folder.
    """
    return dict(module_digests(entries, by_value=(*BY_VALUE, *by_value), package=package))


def library_versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """The versions of installed libraries, `absent` for those that are not, and of Python.

    >>> list(library_versions(["no-such-library"]).items())[0]
    ('no-such-library', 'absent')
    """
    # Syntax trees, which code is known by, stay the same within a minor version.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {**{name: _version(name) for name in names}, "python": python}


def _state(path: Path) -> _State:
    resolved = path.resolve()
    found = resolved.stat()
    return _State(str(resolved), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read_record(record: Path, state: _State) -> str | None:
    try:
        content = read_sealed(record, remedy="remove it")
    except DamagedError:
        # It costs a reading of the file.
        return None
    return str(content["sha256"]) if content["state"] == asdict(state) else None


@functools.cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
