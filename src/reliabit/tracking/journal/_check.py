"""What a journal may hold: all of it is looked at before anything of it is imported.

A journal comes from another machine, and perhaps from somebody else. It may say what was measured there. It may not say
what only the store itself can tell, make files of this machine part of a run, or take the place of what is there.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence, Sized
from datetime import datetime
from pathlib import Path, PurePosixPath

from reliabit.errors import ReliabitError
from reliabit.files import leads_out, sha256
from reliabit.identity import FINGERPRINT, TAG, written_hex
from reliabit.tracking.heartbeat import BEAT
from reliabit.tracking.journal._records import ARTIFACTS, RECORDS, RecordedRun
from reliabit.tracking.tags import PARENT_TAG, reserved_tag

LOCK = ".sync.lock"

DEPTH = 8
"""So many runs may lie above one another; a sweep's cells have one above them."""

RECORDS_BYTES, FILE_BYTES = 2**28, 2**34
"""The largest records of a run, and its largest artifact: 256 MiB and 16 GiB."""

TAGS, PARAMETERS, ARTIFACT_FILES, DATASETS = 1000, 10_000, 10_000, 1000
"""So many of each may a run have."""

NAME_LENGTH, TAG_LENGTH = 250, 8000
"""MLflow keeps no longer name, and no longer value of a tag."""

DATASET_LENGTHS = {
    "name": 500,
    "digest": 36,
    "source_type": 36,
    "source": 65_535,
    "schema": 2**20 - 1,
    "profile": 2**24 - 1,
}

_KEY = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(rf"[\w.\- :/]{{1,{NAME_LENGTH}}}")


def check_places(folder: Path) -> None:
    """Check the files of a journal's records before one of them is opened.

    Raises:
        ReliabitError: One is a link or no file, is too large, or lies in a folder that no run has.
    """
    if os.path.lexists(folder / LOCK):
        _check_file(folder / LOCK, size=RECORDS_BYTES)
    for entry in folder.iterdir():
        if not os.path.lexists(entry / RECORDS):
            continue
        _check_folder(entry)
        _check_file(entry / RECORDS, size=RECORDS_BYTES)


def check_runs(recorded: Sequence[RecordedRun]) -> None:
    """Check what the records of a journal say, and the files that they name, before anything is imported.

    Raises:
        ReliabitError: Names the run, what is wrong with it, and what to do.
    """
    for run in recorded:
        if _KEY.fullmatch(run.key) is None:
            raise _refused(run.folder, "its folder has no name of a run", "remove it")
    runs = {run.key: run for run in recorded if not run.deleted}
    for run in runs.values():
        for what, remedy in _faults(run):
            raise _refused(run.folder, what, remedy)
        parent = run.tags.get(PARENT_TAG)
        if parent is not None and parent not in runs:
            raise ReliabitError(
                f"the run {run.folder} belongs to {_shown(parent)}, which is missing; copy the whole journal"
            )
    for run in runs.values():
        lineage(runs, run.key)
        for name in run.artifacts:
            _check_artifact(run, name)
        _check_fingerprint(run)


def lineage(runs: Mapping[str, RecordedRun], key: str) -> list[RecordedRun]:
    """A run and those above it.

    Raises:
        ReliabitError: It lies above itself, or below too many.
    """
    found = [runs[key]]
    while (parent := found[-1].tags.get(PARENT_TAG)) is not None:
        found.append(runs[parent])
        if len(found) > DEPTH:
            raise _refused(runs[key].folder, "it lies below itself, or below too many runs", "remove its folder")
    return found


def _faults(run: RecordedRun) -> Iterator[tuple[str, str]]:
    """What a run may not have, each with its remedy."""
    remove = "remove its folder if you do not know where it is from, and copy it again if you do"
    reserved = reserved_tag(run.tags)
    if reserved is not None:
        yield (
            f"it has the tag {reserved[:80]!a}, which only this store sets",
            "remove its folder, and find out who wrote it",
        )
    counts: dict[str, tuple[Sized, int]] = {
        "tags": (run.tags, TAGS),
        "parameters": (run.parameters, PARAMETERS),
        "artifacts": (run.artifacts, ARTIFACT_FILES),
        "data sets": (run.datasets, DATASETS),
    }
    for kind, (found, most) in counts.items():
        if len(found) > most:
            yield f"it has {len(found)} {kind}, and {most} are the most", remove
    for kind, names in {"a tag": run.tags, "a parameter": run.parameters, "a metric": _metrics(run)}.items():
        bad = next((name for name in names if not _is_name(name)), None)
        if bad is not None:
            yield f"{kind} has the name {bad[:80]!a}, which no store takes", remove
    if not run.name.isprintable() or len(run.name) > NAME_LENGTH:
        yield f"its name {run.name[:80]!a} is none", remove
    long = next((key for key, value in run.tags.items() if len(value) > TAG_LENGTH), None)
    if long is not None:
        yield f"the value of its tag {long} is longer than {TAG_LENGTH} characters", remove
    if any(len(record.get(key) or "") > most for record in run.datasets for key, most in DATASET_LENGTHS.items()):
        yield "what it says of a data set is too long", remove
    if run.status is None and not _is_moment(run.tags.get(BEAT)):
        yield f"it has not ended, and its {BEAT} is no time", remove


def _metrics(run: RecordedRun) -> Sequence[str]:
    return list(dict.fromkeys(metric.name for metric in run.metrics))


def _is_name(name: str) -> bool:
    """Whether MLflow takes a name, which may become that of a file there."""
    return _NAME.fullmatch(name) is not None and _stays_inside(name)


def _stays_inside(name: str) -> bool:
    """Whether a path is relative, leads nowhere else, and is written in the one way there is.

    >>> _stays_inside("deep/er/note.txt"), _stays_inside("a/../b"), _stays_inside("/etc/passwd"), _stays_inside("./a")
    (True, False, False, False)
    """
    return not leads_out(name) and PurePosixPath(name).as_posix() == name


def _is_moment(text: str | None) -> bool:
    try:
        return text is not None and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _check_artifact(run: RecordedRun, name: str) -> None:
    if not _stays_inside(name) or not name.isprintable() or "\\" in name:
        raise _refused(run.folder, f"its artifact {name[:200]!a} leads out of it or is no path", "remove its folder")
    path = run.folder / ARTIFACTS
    for part in PurePosixPath(name).parts[:-1]:
        _check_folder(path)
        path /= part
    _check_folder(path)
    if not os.path.lexists(run.folder / ARTIFACTS / name):
        raise ReliabitError(f"the run {run.folder} lacks its artifact {name[:200]}; copy the whole journal")
    _check_file(run.folder / ARTIFACTS / name, size=FILE_BYTES)
    expected = run.digests.get(name)
    # A process that died between writing a file and saying so leaves one that it said something else of.
    if expected is not None and run.status is not None and sha256(run.folder / ARTIFACTS / name) != expected:
        raise ReliabitError(f"{run.folder / ARTIFACTS / name} is not what its run logged; copy the journal again")


def _check_fingerprint(run: RecordedRun) -> None:
    """A finished run is used again by its fingerprint, so the fingerprint must be that of what it says was run."""
    expected = run.tags.get(TAG)
    if run.status != "FINISHED" or expected is None:
        return
    if FINGERPRINT not in run.artifacts:
        raise _refused(run.folder, f"it has a {TAG} and no {FINGERPRINT} that it is made of", "remove its folder")
    try:
        found = written_hex((run.folder / ARTIFACTS / FINGERPRINT).read_text(encoding="utf-8"))
    except (ReliabitError, UnicodeDecodeError) as error:
        raise _refused(run.folder, f"its {FINGERPRINT} is damaged", "copy the journal again") from error
    if found != expected:
        raise _refused(run.folder, f"its {TAG} is not that of its {FINGERPRINT}", "remove its folder")


def _check_folder(path: Path) -> None:
    if os.path.lexists(path) and not stat.S_ISDIR(path.lstat().st_mode):
        raise _refused(path, "it is a link or no folder", "copy the journal with its files, not as links")


def _check_file(path: Path, *, size: int) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise _refused(path, "it is a link or no file", "copy the journal with its files, not as links (cp -rL)")
    if found.st_size > size:
        raise _refused(path, f"it has {found.st_size} bytes, and {size} are the most", "remove its run's folder")


def _shown(key: str) -> str:
    return key if _KEY.fullmatch(key) else ascii(key[:80])


def _refused(place: Path, what: str, remedy: str) -> ReliabitError:
    return ReliabitError(f"{place} cannot be imported: {what}; {remedy}")
