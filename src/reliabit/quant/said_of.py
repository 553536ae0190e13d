"""What libraries raise over a checkpoint's own files, said of the checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliabit.errors import ReliabitError

LONGEST = 300
"""Characters of a library's reason that are shown."""


@contextmanager
def said_of(folder: Path, part: str) -> Iterator[None]:
    """Turn whatever is raised while a library reads a checkpoint into one sentence about it.

    Loaders raise what the code they happen to be in raises, from `KeyError` to a panic of their Rust parts, so no list
    of exceptions would be whole.

    Args:
        folder: The checkpoint.
        part: What of it is read, as the sentence begins.

    Raises:
        ReliabitError: Something was raised.

    Example:
        >>> with said_of(Path("models/tiny"), "the tokenizer"):
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
    return told if len(told) <= LONGEST else f"{told[:LONGEST].rsplit(' ', 1)[0]} ..."
