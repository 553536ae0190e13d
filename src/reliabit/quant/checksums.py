"""The hashes of a quantized checkpoint, in a file of its own, and their check."""

import json
from collections.abc import Mapping
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.files import replacing, sha256
from reliabit.quant.shards import INDEX

CHECKSUMS = "checksums.json"
CHECKSUMS_VERSION = 1
_DESCRIBING = ("config.json", INDEX)


def write_checksums(folder: Path, shards: Mapping[str, str], *, source: str) -> None:
    """Write the hashes of a checkpoint's weights, configuration and index.

    Args:
        folder: The checkpoint, whole but for this.
        shards: The SHA-256 of each shard, by name.
        source: The digest of the checkpoint that it was made from (`folder_digest`).
    """
    described = {name: sha256(folder / name) for name in _DESCRIBING if (folder / name).is_file()}
    record = {"version": CHECKSUMS_VERSION, "source": source, "sha256": {**shards, **described}}
    with replacing(folder / CHECKSUMS) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def verify_checkpoint(folder: Path) -> dict[str, str]:
    """Check a quantized checkpoint against the hashes that were written with it; every byte of it is read.

    Args:
        folder: A checkpoint that `quantize_checkpoint` wrote.

    Returns:
        The SHA-256 of each file, by name.

    Raises:
        ReliabitError: There are no hashes, or a file is missing or not the one that was written; it is named.
    """
    hashes = _read_hashes(folder / CHECKSUMS)
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            raise ReliabitError(f"{file} is missing, and {CHECKSUMS} lists it; quantize again or fetch it again")
        if sha256(file) != expected:
            raise ReliabitError(f"{file} differs from its hash in {CHECKSUMS}; quantize again or fetch it again")
    return hashes


def _read_hashes(file: Path) -> dict[str, str]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        hashes = {str(name): str(digest) for name, digest in record["sha256"].items()}
    except FileNotFoundError as error:
        raise ReliabitError(
            f"{file.parent} has no {CHECKSUMS}, which task=quantize writes; quantize again to have one"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReliabitError(f"{file} holds no hashes ({error}); quantize again or fetch it again") from error
    if record.get("version") != CHECKSUMS_VERSION:
        raise ReliabitError(
            f"{file} is of version {record.get('version')} and this Reliabit reads {CHECKSUMS_VERSION}; update Reliabit"
        )
    return hashes
