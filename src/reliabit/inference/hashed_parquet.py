"""Parquet files that carry their own SHA-256: any reader of Parquet reads them, and here no byte changes unnoticed.

The hash is one of the whole file with zeros in its place, which is among the metadata at the end. A second entry says
that there is one, so that a damaged name of either does not make the file one that never had a hash.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import DamagedError

if TYPE_CHECKING:
    import pyarrow as pa

HASH, HASHED = b"reliabit.sha256", b"reliabit.hashed"
_YES = b"1"
_ZEROS = b"0" * 64


def write_hashed(table: "pa.Table", path: Path) -> None:
    """Write a table with its hash."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({HASHED: _YES, HASH: _ZEROS})
    content = path.read_bytes()
    path.write_bytes(_with_hash(content, hashlib.sha256(content).hexdigest().encode(), instead_of=_ZEROS))


def read_hashed(path: Path, *, expected: str | None, remedy: str) -> "pa.Table":
    """Read a table, and check it against its hash if it carries one.

    Args:
        path: The file.
        expected: The SHA-256 of the whole file as it is, where that is known from elsewhere.
        remedy: What to do where it is damaged.

    Returns:
        The table; its metadata are those that it was written with.

    Raises:
        DamagedError: It cannot be read, or is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DamagedError(f"{path} differs from its recorded hash", remedy=remedy)
        if not _is_whole(content, pq.read_metadata(pa.BufferReader(content)).metadata or {}):
            raise DamagedError(f"{path} differs from the hash it carries", remedy=remedy)
        # What is read are the bytes that were checked, whatever becomes of the file meanwhile.
        return pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DamagedError(f"{path} is not a Parquet file that can be read ({reason})", remedy=remedy) from error


def _is_whole(content: bytes, metadata: Mapping[bytes, bytes]) -> bool:
    """Whether a file is what its hash says; one that never had a hash is."""
    carried, told = metadata.get(HASH), metadata.get(HASHED)
    if carried is None and told is None:
        return HASH not in content and HASHED not in content
    if carried is None or told != _YES or len(carried) != len(_ZEROS):
        return False
    return hashlib.sha256(_with_hash(content, _ZEROS, instead_of=carried)).hexdigest().encode() == carried


def _with_hash(content: bytes, value: bytes, *, instead_of: bytes) -> bytes:
    """The file with another value behind the name of the hash, which stands last among its metadata."""
    place = content.find(instead_of, content.rfind(HASH))
    return content[:place] + value + content[place + len(value) :]
