"""Reading a sqlite store without MLflow, whose import takes longer than most commands: its tables are known here alone.

A database of another schema, and every question of another form than Reliabit asks, is left to MLflow's own client; so
is whatever writes. A test holds the two against each other.
"""

import json
import math
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from reliabit.process import rare_collections
from reliabit.tracking.store.calls import NotFoundError, copy_artifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"

SCHEMA = "dc11669786a5"
"""The revision of MLflow's tables that is read here; see `alembic_version` in a store."""

ELSEWHERE = ("MLFLOW_WORKSPACE", "MLFLOW_ENABLE_WORKSPACES", "MLFLOW_REGISTRY_URI")
"""Variables with which MLflow looks at other rows, or into another database."""

ACTIVE, DELETED, ALL = 1, 2, 3
"""What a search takes, as `mlflow.entities.ViewType` counts."""

_STAGES = {ACTIVE: ("active",), DELETED: ("deleted",), ALL: ("active", "deleted")}
_CLAUSE = re.compile(r"(?:tags\.(?:`(?P<tag>[^`]+)`|(?P<plain>\w+))|attributes\.status) = '(?P<value>[^']*)'")
_NAMED = re.compile(r"name = '(?P<name>[^']*)'")
_ORDERS = {(): "start_time DESC, run_uuid", ("attributes.start_time ASC",): "start_time, run_uuid"}

_OURS = "workspace = 'default'"
_TAGGED = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)"
_AMONG = "{} IN (SELECT value FROM json_each(?))"

Rows: TypeAlias = Callable[..., list[sqlite3.Row]]
"""Asks a database, with values for the signs ? of a query."""


class Page(list[Any]):
    """What a search found, and what to ask for the rest of it with."""

    def __init__(self, found: Sequence[Any], token: str | None = None) -> None:
        super().__init__(found)
        self.token = token


def can_read(uri: str) -> bool:
    """Whether an address is that of a sqlite database whose tables are those that are known here."""
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or "?" in uri or not path.is_file() or any(name in os.environ for name in ELSEWHERE):
        return False
    with _opened(path) as rows:
        try:
            return [row["version_num"] for row in rows("SELECT version_num FROM alembic_version")] == [SCHEMA]
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            return False


class _Run(SimpleNamespace):
    """A run; its inputs and outputs, which no command looks at, are MLflow's to give."""

    def __getattr__(self, name: str) -> Any:
        if name not in ("inputs", "outputs"):
            raise AttributeError(name)
        return getattr(self.client._mlflow.get_run(self.info.run_id), name)


class SqliteClient:
    """The calls of `mlflow.MlflowClient` that read, answered from the database; see there. MLflow does all others."""

    def __init__(self, uri: str) -> None:
        self._uri, self._path = uri, Path(uri.removeprefix(SQLITE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mlflow, name)

    @cached_property
    def _mlflow(self) -> "MlflowClient":
        with rare_collections():
            from mlflow import MlflowClient

            return MlflowClient(tracking_uri=self._uri)

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        """The experiment of a name, a deleted one too."""
        with _opened(self._path) as rows:
            return next(iter(_experiments(rows, "name = ?", name)), None)

    def search_experiments(self, view_type: int = ACTIVE, max_results: int = 1000, **more: Any) -> Any:
        """All experiments, the newest first."""
        if any(value is not None for value in more.values()):
            return self._mlflow.search_experiments(view_type, max_results, **more)
        with _opened(self._path) as rows:
            stages = json.dumps(_STAGES[view_type])
            found = _experiments(rows, _AMONG.format("lifecycle_stage"), stages)
        return Page(found) if len(found) <= max_results else self._mlflow.search_experiments(view_type, max_results)

    def get_run(self, run_id: str) -> SimpleNamespace:
        """A run, a deleted one too."""
        with _opened(self._path) as rows:
            found = _runs(self, rows, [run_id])
        if not found:
            raise NotFoundError(f"there is no run {run_id} in the tracking store")
        return found[0]

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ACTIVE,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        """The runs with some tags, or of a status."""
        asked = filter_string.split(" and ") if filter_string else []
        clauses = [clause for one in asked if (clause := _CLAUSE.fullmatch(one))]
        order = _ORDERS.get(tuple(order_by or ()))
        if len(clauses) < len(asked) or order is None or (page_token is not None and not page_token.isdecimal()):
            # A page of MLflow's own numbering is gone on with by itself.
            return self._mlflow.search_runs(
                list(experiment_ids), filter_string, run_view_type, max_results, list(order_by or ()), page_token
            )
        wanted = [_AMONG.format("experiment_id"), _AMONG.format("lifecycle_stage")]
        values = [json.dumps([int(one) for one in experiment_ids]), json.dumps(_STAGES[run_view_type])]
        for clause in clauses:
            name = clause["tag"] or clause["plain"]
            wanted.append(_TAGGED if name else "status = ?")
            values += [name, clause["value"]] if name else [clause["value"]]
        start = int(page_token or 0)
        with _opened(self._path) as rows:
            query = f"SELECT run_uuid FROM runs WHERE {' AND '.join(wanted)} ORDER BY {order} LIMIT ? OFFSET ?"
            ids = [row["run_uuid"] for row in rows(query, *values, max_results + 1, start)]
            found = _runs(self, rows, ids[:max_results])
        return Page(found, str(start + max_results) if len(ids) > max_results else None)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Copy an artifact, a file or a folder, into a folder, under its own path."""
        address = urlsplit(str(self.get_run(run_id).info.artifact_uri))
        if address.scheme not in ("", "file") or address.netloc or dst_path is None:
            return str(self._mlflow.download_artifacts(run_id, path, dst_path))
        return copy_artifact(Path(unquote(address.path)), path, Path(dst_path))

    def get_registered_model(self, name: str) -> SimpleNamespace:
        """A registered model."""
        with _opened(self._path) as rows:
            found = rows(f"SELECT * FROM registered_models WHERE {_OURS} AND name = ?", name)
            tags = rows(f"SELECT key, value FROM registered_model_tags WHERE {_OURS} AND name = ?", name)
        if not found:
            raise NotFoundError(f"there is no registered model {name} in the tracking store")
        return SimpleNamespace(name=name, description=found[0]["description"], tags=dict(map(tuple, tags)))

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        """A version of a registered model."""
        return self._version(name, "version = ?", version)

    def get_model_version_by_alias(self, name: str, alias: str) -> SimpleNamespace:
        """The version that an alias names."""
        if alias.lower() == "latest":
            return self._mlflow.get_model_version_by_alias(name, alias)  # type: ignore[no-any-return]
        alias_names = f"SELECT version FROM registered_model_aliases WHERE {_OURS} AND name = ? AND alias = ?"
        return self._version(name, f"version IN ({alias_names})", name, alias)

    def search_model_versions(self, filter_string: str | None = None, **more: Any) -> Any:
        """The versions of a registered model, the one that was changed last first."""
        named = _NAMED.fullmatch(filter_string or "")
        if named is None or any(value is not None for value in more.values()):
            return self._mlflow.search_model_versions(filter_string, **more)
        with _opened(self._path) as rows:
            return Page(_versions(rows, named["name"], "1 ORDER BY last_updated_time DESC, version DESC"))

    def _version(self, name: str, which: str, *values: str) -> SimpleNamespace:
        with _opened(self._path) as rows:
            found = _versions(rows, name, which, *values)
        if not found:
            raise NotFoundError(f"there is no such version of the registered model {name} in the tracking store")
        return found[0]


@contextmanager
def _opened(path: Path) -> Iterator[Rows]:
    """Open a database to read it; whoever writes to it is waited for as MLflow waits."""
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        yield lambda query, *values: connection.execute(query, values).fetchall()
    finally:
        connection.close()


def _experiments(rows: Rows, which: str, *values: str) -> list[SimpleNamespace]:
    found = rows(
        f"SELECT experiment_id, name, artifact_location, lifecycle_stage FROM experiments WHERE {_OURS} AND {which} "
        "ORDER BY last_update_time DESC, experiment_id",
        *values,
    )
    ids = [row["experiment_id"] for row in found]
    tags = _by_owner(rows, "experiment_tags", "experiment_id", ids)
    return [
        SimpleNamespace(**{**dict(row), "experiment_id": str(row["experiment_id"])}, tags=tags[row["experiment_id"]])
        for row in found
    ]


def _runs(client: SqliteClient, rows: Rows, ids: Sequence[str]) -> list[SimpleNamespace]:
    """Runs by their ids, in their order; three questions more for all of them together."""
    found = {
        row["run_uuid"]: row for row in rows(f"SELECT * FROM runs WHERE {_AMONG.format('run_uuid')}", json.dumps(ids))
    }
    tags, params = (_by_owner(rows, table, "run_uuid", ids) for table in ("tags", "params"))
    metrics = _by_owner(rows, "latest_metrics", "run_uuid", ids, value="CASE WHEN is_nan THEN NULL ELSE value END")
    return [
        _Run(
            client=client,
            info=_run_info(found[run_id], tags[run_id]),
            data=SimpleNamespace(
                metrics={key: math.nan if value is None else value for key, value in metrics[run_id].items()},
                params=params[run_id],
                tags=tags[run_id],
            ),
        )
        for run_id in ids
        if run_id in found
    ]


def _run_info(row: sqlite3.Row, tags: dict[str, str]) -> SimpleNamespace:
    same = ("user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri")
    return SimpleNamespace(
        run_id=row["run_uuid"],
        run_name=row["name"] or tags.get("mlflow.runName"),
        experiment_id=str(row["experiment_id"]),
        **{name: row[name] for name in same},
    )


def _by_owner(
    rows: Rows, table: str, owner: str, ids: Sequence[Any], *, value: str = "value"
) -> dict[Any, dict[str, Any]]:
    """What belongs to each of some runs or experiments, in the order in which it was recorded first."""
    found: dict[Any, dict[str, Any]] = defaultdict(dict)
    query = f"SELECT {owner}, key, {value} FROM {table} WHERE {_AMONG.format(owner)} ORDER BY rowid"
    for one, key, its in rows(query, json.dumps(ids)):
        found[one][key] = its
    return found


def _versions(rows: Rows, name: str, which: str, *values: str) -> list[SimpleNamespace]:
    of_model = f"{_OURS} AND name = ?"
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for version, key, value in rows(f"SELECT version, key, value FROM model_version_tags WHERE {of_model}", name):
        tags[version][key] = value
    aliases: dict[int, list[str]] = defaultdict(list)
    for version, alias in rows(f"SELECT version, alias FROM registered_model_aliases WHERE {of_model}", name):
        aliases[version].append(alias)
    query = f"SELECT * FROM model_versions WHERE {of_model} AND current_stage != 'Deleted_Internal' AND {which}"
    return [
        SimpleNamespace(
            name=name,
            version=row["version"],
            creation_timestamp=row["creation_time"],
            description=row["description"],
            source=row["source"],
            run_id=row["run_id"],
            tags=tags[row["version"]],
            aliases=aliases[row["version"]],
        )
        for row in rows(query, name, *values)
    ]
