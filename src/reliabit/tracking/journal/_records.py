"""The records of an offline run: one JSON object a line, appended and flushed to the disk one by one.

A run's folder holds `records.jsonl` and, under `artifacts/`, what it logged as files. A line that is cut off by the
death of its writer ends the file; it is left out when the file is read, and cut away when the file is gone on with.
Whatever else a line holds than a writer puts there is damage, and said of the line.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reliabit.errors import ReliabitError
from reliabit.tracking.journal._fields import JOURNAL_VERSION, RUNNING, fault_of, storable

RECORDS = "records.jsonl"
ARTIFACTS = "artifacts"


class MetricRecord(NamedTuple):
    """One value of a metric, which may be infinite or not a number, as MLflow's `Metric` takes it."""

    name: str
    value: float
    at: int
    """Milliseconds since 1970."""
    step: int


@dataclass(frozen=True)
class RecordedRun:
    """What the records of one run come to.

    Attributes:
        key: The run's id in the journal, the name of its folder.
        folder: Its folder.
        name: Its name.
        started: Milliseconds since 1970.
        opened: The same in nanoseconds, which tells the order of runs that were opened one after another.
        size: Bytes of the records, a cut-off line left out; they only ever grow.
        sha256: Digest of these.
        status: How it ended; `None` where the records end before.
        ended: When, in milliseconds since 1970.
        deleted: Whether it was taken back.
        tags: The last value of each.
        parameters: The last value of each.
        metrics: Every value, as recorded.
        datasets: Inputs with their tags, as plain data.
        artifacts: Its artifacts, by path relative to the artifact folder.
        digests: The SHA-256 of each as it was logged; journals from before these were recorded have none.
    """

    key: str
    folder: Path
    name: str
    started: int
    opened: int
    size: int
    sha256: str
    status: str | None
    ended: int | None
    deleted: bool
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: list[MetricRecord]
    datasets: list[dict[str, Any]]
    artifacts: list[str]
    digests: dict[str, str]


def append(folder: Path, record: Mapping[str, Any]) -> None:
    """Append a record to a run's folder; it is on the disk when this returns, or not there at all."""
    path = folder / RECORDS
    line = (json.dumps(storable(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        _lock(descriptor)
        size = _whole(descriptor)
        try:
            written = os.write(descriptor, line)
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError as error:
            # What is left of the line would make the next record unreadable.
            os.ftruncate(descriptor, size)
            raise unwritable(path, error) from error
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> ReliabitError:
    """The error for a journal that cannot be written to."""
    return ReliabitError(f"the journal {path} cannot be written ({error.strerror}); free or correct its place")


def read_runs(folder: Path) -> list[RecordedRun]:
    """The runs of a journal, oldest first; a folder whose process died before its first record holds none.

    Raises:
        ReliabitError: There is no such folder, or a run's records are damaged or of another version.
    """
    if not folder.is_dir():
        raise ReliabitError(f"there is no journal at {folder}; correct tracking.uri or the path")
    found = [read_run(entry) for entry in folder.iterdir() if (entry / RECORDS).is_file()]
    return sorted((run for run in found if run is not None), key=lambda run: run.opened)


def read_run(folder: Path) -> RecordedRun | None:
    """One run, or `None` where not even its first record is whole.

    Raises:
        ReliabitError: Its records are damaged or of another version.
    """
    content = (folder / RECORDS).read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    records = list(_parse(whole, folder / RECORDS))
    if not records:
        return None
    first = records[0]
    twice = _with_two_values(records)
    if twice is not None:
        raise ReliabitError(
            f"{folder / RECORDS} cannot be read: its parameter {twice[:80]!a} has two values; remove the run's folder"
        )
    *_, end = ({}, *(record for record in records if "status" in record))
    # A sweep that is gone on with is opened again.
    ended = end.get("status", RUNNING) != RUNNING
    return RecordedRun(
        key=folder.name,
        folder=folder,
        name=first["name"],
        started=first["at"],
        opened=first["opened"],
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        status=end["status"] if ended else None,
        ended=end["at"] if ended else None,
        deleted=any(record.get("deleted", False) for record in records),
        tags=_last(records, "tags"),
        parameters=_last(records, "parameters"),
        metrics=[MetricRecord(name, float(value), at, step) for name, value, at, step in _all(records, "metrics")],
        datasets=list(_all(records, "datasets")),
        artifacts=list(dict.fromkeys(_all(records, "artifacts"))),
        digests=_last(records, "sha256"),
    )


def begins_with(run: RecordedRun, *, size: int, sha256: str) -> bool:
    """Whether the records of a run begin with what they once were: what a journal holds is only ever added to."""
    with (run.folder / RECORDS).open("rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest() == sha256


def _lock(descriptor: int) -> None:
    """Keep other processes out until the file is closed: some close the runs of dead ones, or take finished ones over.

    Cluster file systems may know no locks; what is appended in one call mixes with nothing there either.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _whole(descriptor: int) -> int:
    """The size of a file of records, from which the line that a dead process left unfinished is cut off."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        size = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, size)
    return size


def _parse(content: bytes, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            what = fault_of(record, first=number == 1)
        # Brackets in brackets, thousands deep, are a recursion.
        except (ValueError, RecursionError):
            what = "it is no JSON"
        if what is not None:
            raise ReliabitError(f"{path} is damaged in line {number} ({what}); remove the line or the run's folder")
        if number == 1 and record["version"] != JOURNAL_VERSION:
            raise ReliabitError(
                f"{path} is a journal of version {record['version']}, and this Reliabit reads version "
                f"{JOURNAL_VERSION}; synchronize it with the Reliabit that wrote it"
            )
        yield record


def _last(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, str]:
    return {key: value for record in records for key, value in record.get(kind, {}).items()}


def _with_two_values(records: Sequence[Mapping[str, Any]]) -> str | None:
    """A parameter that was given another value later, which no store takes."""
    values: dict[str, str] = {}
    for record in records:
        parameters: dict[str, str] = record.get("parameters", {})
        for key, value in parameters.items():
            if values.setdefault(key, value) != value:
                return key
    return None


def _all(records: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Any]:
    return (entry for record in records for entry in record.get(kind, []))
