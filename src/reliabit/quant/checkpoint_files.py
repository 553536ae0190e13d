"""The files of a checkpoint: shards, hashes, where one may be written; told without torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

from reliabit.errors import ReliabitError
from reliabit.files import inside, replacing, sha256
from reliabit.quant.record import quantized_as

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CHECKSUMS = "checksums.json"
GGUF = ".gguf"

_FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""torch's names of the types that safetensors files name."""

_VERSION = 1
"""Of the file of hashes."""

_DESCRIBING = ("config.json", INDEX)

_LONGEST = 300
"""Characters of a library's reason that are shown."""


def check_shards(files: Sequence[str | Path]) -> None:
    """Refuse a safetensors file that is missing, truncated or none at all; it is named."""
    from safetensors import SafetensorError, safe_open

    for file in map(Path, files):
        try:
            # Headers alone; what `framework` says is imported only for a tensor.
            with safe_open(file, framework="np") as shard:
                shard.keys()
        except (OSError, SafetensorError) as error:
            raise ReliabitError(f"{file} is truncated or no safetensors file ({error}); fetch it again") from error


def stored_types(folder: Path) -> set[str]:
    """The types of the floating-point tensors of a checkpoint, by torch's names."""
    from safetensors import safe_open

    files, found = weight_files(folder), set[str]()
    check_shards(files)
    for file in files:
        with safe_open(file, framework="np") as shard:
            found |= {shard.get_slice(key).get_dtype() for key in shard.keys()}  # noqa: SIM118 - no mapping
    return {_FLOATS[name] for name in found & _FLOATS.keys()}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index lists, or the only one where it has none.

    Raises:
        ReliabitError: There is none, or the index cannot be read, lists files that are not there or lie outside the
            folder, or lists others than the loader takes.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise ReliabitError(f"the checkpoint {folder} has no {SINGLE} and no {INDEX}; fetch its weights")
        return [folder / SINGLE]
    listed = _listed(index)
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise ReliabitError(
            f"the checkpoint {folder} lacks {len(missing)} of the {len(listed)} shards that its index lists "
            f"({', '.join(missing)}); fetch them again"
        )
    if (folder / SINGLE).is_file() and SINGLE not in listed:
        # transformers would read that one, and what reads a layer at a time the others.
        raise ReliabitError(f"the checkpoint {folder} has both {SINGLE} and an index of other shards; delete one")
    return [folder / name for name in listed]


def _listed(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReliabitError(f"{index} is no index of shards; fetch it again") from error
    strange = [name for name in names if not isinstance(name, str)]
    if strange or not names:
        raise ReliabitError(f"{index} is no index of shards (it lists {strange or 'none'}); fetch it again")
    outside = sorted(name for name in names if "\0" in name or PurePath(name).name != name)
    if outside:
        raise ReliabitError(
            f"{index} lists the shard {outside[0]!r}, which does not lie in its folder; fetch the checkpoint again"
        )
    return sorted(names)


def write_checksums(folder: Path, shards: Mapping[str, str], *, source: str) -> None:
    """Write the hashes of a whole checkpoint: those of its shards, of what describes it, and its source's digest."""
    described = {name: sha256(folder / name) for name in _DESCRIBING if (folder / name).is_file()}
    record = {"version": _VERSION, "source": source, "sha256": {**shards, **described}}
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
        file = inside(folder, name)
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
    if record.get("version") != _VERSION:
        raise ReliabitError(
            f"{file} is of version {record.get('version')} and this Reliabit reads {_VERSION}; update Reliabit"
        )
    return hashes


def check_destination(destination: Path, *, source: Path) -> None:
    """Check that a folder may be written, or replaced, by what is made of a checkpoint.

    Args:
        destination: The folder.
        source: The checkpoint that is read meanwhile.

    Raises:
        ReliabitError: It is the source, holds it or lies in it, is a file or a link, or holds something else than a
            quantized checkpoint.
    """
    here, there = destination.resolve(), source.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ReliabitError(f"{destination} would overwrite the checkpoint {source} that it is made of; name another")
    if destination.is_symlink():
        raise ReliabitError(f"{destination} is a link; name the folder that it leads to, {here}")
    if not destination.exists():
        return
    if not destination.is_dir():
        raise ReliabitError(f"{destination} is a file; name a folder")
    found = list(destination.iterdir())
    if found and all(path.suffix == GGUF for path in found):
        return
    if found and (any(path.is_dir() for path in found) or quantized_as(destination) is None):
        raise ReliabitError(f"{destination} holds something else than a quantized checkpoint; name another folder")


@contextmanager
def loading(folder: Path, part: str) -> Iterator[None]:
    """Turn whatever is raised while a library reads a checkpoint into one sentence about it.

    Loaders raise what the code they happen to be in raises, from `KeyError` to a panic of their Rust parts, so no list
    of exceptions would be whole.

    Args:
        folder: The checkpoint.
        part: What of it is read, as the sentence begins.

    Raises:
        ReliabitError: Something was raised.

    Example:
        >>> with loading(Path("models/tiny"), "the tokenizer"):
        ...     {}["added_tokens"]
        Traceback (most recent call last):
        reliabit.errors.ReliabitError: the tokenizer of the checkpoint models/tiny cannot be loaded (KeyError: ...
    """
    try:
        yield
    except ReliabitError:
        raise
    except BaseException as error:
        # Rust's panics are no `Exception`s.
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise ReliabitError(
            f"{part} of the checkpoint {folder} cannot be loaded ({_reason(error)}); fetch it again or correct the file"
        ) from error


def _reason(error: BaseException) -> str:
    """What an exception says in one line; its type where that alone says nothing."""
    said = " ".join(str(error).split())
    told = said if isinstance(error, OSError | RuntimeError | ValueError) else f"{type(error).__name__}: {said}"
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST].rsplit(' ', 1)[0]} ..."
