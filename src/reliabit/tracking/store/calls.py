"""Calls of MLflow's client that give or take only so much at a time, or fail where there is nothing."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

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
    from mlflow.exceptions import MlflowException

    try:
        return call(*arguments)
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        return None
