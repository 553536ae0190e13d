"""Calls of MLflow's client that give or take only so much at a time, or fail where there is nothing."""

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from reliabit.errors import ReliabitError
from reliabit.files import leads_out

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.entities import PagedList

A_CALL = {"params": 100, "metrics": 1000, "tags": 100}
"""So many of each does MLflow take in one call."""

TAKEN = "RESOURCE_ALREADY_EXISTS"
GONE = ("RESOURCE_DOES_NOT_EXIST",)
MISSING = (*GONE, "INVALID_PARAMETER_VALUE")
"""How MLflow says that there is no such version, alias or model."""

T = TypeVar("T")


class NotFoundError(ReliabitError):
    """There is no such thing in a store that is read without MLflow, which says so with a code."""

    error_code = GONE[0]


def store_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a store raises, and others, for an `except`: MLflow's libraries are loaded by then, or not to blame."""
    named = (("mlflow.exceptions", "MlflowException"), ("sqlalchemy.exc", "SQLAlchemyError"))
    return (
        *others,
        NotFoundError,
        sqlite3.Error,
        *(getattr(sys.modules[m], name) for m, name in named if m in sys.modules),
    )


def all_pages(search: "Callable[..., PagedList[T]]", *arguments: Any, **named: Any) -> Iterator[T]:
    """Everything that a search of MLflow's finds, which it gives page by page."""
    token = None
    while True:
        page = search(*arguments, **named, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def log_all(client: "MlflowClient", run_id: str, **entries: Sequence[Any]) -> None:
    """Record any number of `params`, `metrics` and `tags` in as few calls as MLflow takes them in."""
    for kind, found in entries.items():
        for start in range(0, len(found), A_CALL[kind]):
            client.log_batch(run_id, **{kind: found[start : start + A_CALL[kind]]})


def found_or_none(call: Callable[..., T], *arguments: Any, codes: Sequence[str] = MISSING) -> T | None:
    """What a call on a store gives, or `None` where the store says that there is no such thing."""
    try:
        return call(*arguments)
    except store_errors() as error:
        if getattr(error, "error_code", None) not in codes:
            raise
        return None


def copy_artifact(artifacts: Path, name: str, folder: Path) -> str:
    """Copy an artifact of a run on this machine, a file or a folder, into a folder, under its own path."""
    source, target = artifacts / artifact_path(name), folder / artifact_path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
    return str(target)


def artifact_path(name: str) -> PurePosixPath:
    """A path that cannot lead out of the folder it is joined to."""
    # No name stands for all artifacts.
    if name and leads_out(name):
        raise ReliabitError(f"{name!r} leads out of the run's folder; name artifacts by relative paths without ..")
    return PurePosixPath(name)
