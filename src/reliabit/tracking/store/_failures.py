"""What can go wrong with a tracking store, in one sentence: locked, read-only, full, newer or older than MLflow.

MLflow reports these as an exception of a database driver wrapped into its own, over several lines, or as the operating
system's. They are told apart here, once, for whatever is called on the store.
"""

import errno
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reliabit.disk_errors import number_of
from reliabit.errors import ReliabitError
from reliabit.tracking.redaction import redact
from reliabit.tracking.store.outages import SERVERS, Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient

READING = "download_artifacts"

_SCHEMA = re.compile(r"out-of-date database schema \(found version (?P<found>\w+)")

_FULL = "has no space left on its disk; make room there and run again (a sweep goes on with sweep.resume=last)"
_LIMITED = (
    "cannot be written to its end; look whether its files may grow (ulimit -f, a quota) and whether its disk is whole, "
    "and run again (a sweep goes on with sweep.resume=last)"
)
_READ_ONLY = "cannot be written, it is read-only; make it writable or set tracking.uri"
_LOCKED = "is locked by another process; end what holds it (an open sqlite shell, a backup) and run again"

_DELETED = re.compile(
    r"(?:The )?(?P<kind>run|experiment) '?(?P<id>\w+)'? must be in (?:the )?'active'",
    re.IGNORECASE,
)

_TEXTS = {
    "database is locked": _LOCKED,
    "attempt to write a readonly database": _READ_ONLY,
    "database or disk is full": _FULL,
    "disk I/O error": _LIMITED,
}
_NUMBERS = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _LIMITED, errno.EROFS: _READ_ONLY}


def sentence(error: BaseException, *, uri: str) -> str | None:
    """What keeps a store from being read or written, and what to do; `None` for any other error.

    Args:
        error: What was raised; its causes count as well.
        uri: The store's address; credentials in it are not repeated.

    Example:
        >>> sentence(OSError(errno.ENOSPC, "No space left on device"), uri="sqlite:///m.db")
        'the tracking store sqlite:///m.db has no space left on its disk; make room there and run again ...'
        >>> sentence(ValueError("database"), uri="sqlite:///m.db") is None
        True
    """
    for cause in _chain(error):
        told = _of_one(cause, uri=uri)
        if told is not None:
            return redact(f"the tracking store {uri} {told}")
    return None


@contextmanager
def plainly(uri: str) -> Iterator[None]:
    """Turn what can go wrong with a store into the one exception that a user reads; the rest passes.

    Raises:
        ReliabitError: The store is locked, read-only, full, or of another version.
    """
    try:
        yield
    except ReliabitError:
        raise
    except Exception as error:
        told = sentence(error, uri=uri)
        if told is None:
            raise
        raise ReliabitError(told) from error


def guarded(client: "MlflowClient", *, uri: str) -> "MlflowClient":
    """The same client, with every call as `plainly` has it; that of a server waits while it is restarted."""
    return cast("MlflowClient", _Guarded(client, uri))


class _Guarded:
    """Hands every call on to a client."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client, self._uri = client, uri
        self._patience = Patience(uri)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if callable(found) and self._uri.startswith(SERVERS):
            found = self._patience.outlasting(found)
        if name == READING:
            # What is full is the disk that is read to; whoever reads says which.
            return found
        return _guarded_call(found, self._uri) if callable(found) else found


def _guarded_call(call: Callable[..., Any], uri: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def guarded_call(*arguments: Any, **named: Any) -> Any:
        with plainly(uri):
            return call(*arguments, **named)

    return guarded_call


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _of_one(error: BaseException, *, uri: str) -> str | None:
    if (number := number_of(error)) in _NUMBERS:
        return _NUMBERS[number]
    text = str(error)
    if found := _DELETED.search(text):
        return deleted(found["kind"].lower(), found["id"])
    if found := _SCHEMA.search(text):
        return _of_schema(found["found"], uri=uri)
    return next((told for part, told in _TEXTS.items() if part in text), None)


def deleted(kind: str, name: str) -> str:
    """What to do about a run or an experiment that was deleted in the store.

    >>> deleted("run", "17")
    'has the run 17 among its deleted ones; restore it (mlflow runs restore --run-id 17, with MLFLOW_TRACKING_URI ...
    """
    return (
        f"has the {kind} {name} among its deleted ones; restore it (mlflow {kind}s restore --{kind}-id {name}, with "
        f"MLFLOW_TRACKING_URI set to tracking.uri), or "
        f"{'name another with tracking.experiment' if kind == 'experiment' else 'run again'}"
    )


def _of_schema(revision: str, *, uri: str) -> str:
    if _is_known(revision):
        return f"was written by an older MLflow; copy it away, then run: mlflow db upgrade {uri}"
    return (
        f"was written by a newer MLflow than the {version('mlflow')} installed here (schema {revision} is unknown to "
        "it); install that one, or set tracking.uri to another store"
    )


def _is_known(revision: str) -> bool:
    """Whether the installed MLflow knows a schema: its migrations, which lie beside it, lead there."""
    import mlflow
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    try:
        return ScriptDirectory(str(migrations)).get_revision(revision) is not None
    except CommandError:
        return False
