"""A journal from anywhere: it is imported as a whole, or refused in one sentence with nothing of it imported."""

import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reliabit.errors import ReliabitError
from reliabit.identity import Fingerprint
from reliabit.tracking.journal._check import check_places, check_runs
from reliabit.tracking.journal._records import RECORDS, read_runs
from reliabit.tracking.journal.sync import Synced, sync
from reliabit.tracking.tags import PARENT_TAG
from reliabit.tracking.tracker import Journal
from tracking.stores import artifacts_of, create, tracker_at

LATER = datetime.now(UTC) + timedelta(days=1)


def record(journal: Journal, *, tags=None) -> str:
    """A sweep with one finished cell that has something of everything; returns the cell."""
    sweep = journal.start("sweep", tags={"kind": "sweep", "overrides.json": '["quant.bits=4"]'})
    fingerprint = Fingerprint({"seed": 0}, {"data": "a"}, {}, {})
    with journal.run(
        "cell·4b", tags={"kind": "cell", **fingerprint.to_tags(), **(tags or {})}, parent=sweep.run_id
    ) as run:
        run.log_identity({"seed": 0, "quant": {"bits": 4}}, fingerprint=fingerprint)
        run.log_metrics({"selective/aurc": 0.25, "undefined": float("nan")})
        run.log_text("ä", "deep/note.txt")
    journal.client.set_terminated(sweep.run_id, "FINISHED")
    return run.run_id


def records_of(journal: Journal, key: str) -> Path:
    return journal.folder / key / RECORDS


def add(journal: Journal, key: str, **fields) -> None:
    """A record of a stranger's: whatever it holds."""
    with records_of(journal, key).open("a") as file:
        file.write(json.dumps(fields) + "\n")


def refused(journal: Journal, tracker, message: str) -> None:
    """The journal is refused in one line, and the store is as it was."""
    with pytest.raises(ReliabitError, match=message) as error:
        sync(journal.folder, tracker, now=LATER)
    assert str(error.value).isprintable(), "one line, and nothing that moves a cursor"
    assert str(journal.folder) in str(error.value)
    assert ";" in str(error.value), "a remedy"
    assert tracker.client.search_runs([tracker.experiment_id], run_view_type=3) == []


@pytest.mark.parametrize(
    "tags",
    [
        {"promotion.number": "1"},
        {"kind": "promotion"},
        {"journal.run": "0" * 32},
        {"journal.synced": "x"},
        {"mlflow.user": "ceo"},
        {"mlflow.source.git.repoURL": "https://me:token@host/x"},
        {"mlflow.loggedArtifacts": "[]"},
        {"dvc.results": "0" * 64},
        {"dvc.dirty": "false"},
    ],
    ids=str,
)
def test_tags_that_only_the_store_sets_are_refused(journal, tracker, tags):
    record(journal, tags=tags)
    refused(journal, tracker, "which only this store sets; remove its folder, and find out who wrote it")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tags": {f"tag{number}": "x" for number in range(5000)}}, r"it has \d+ tags, and 1000 are the most"),
        ({"parameters": {f"p{number}": "x" for number in range(20_000)}}, r"it has \d+ parameters, and 10000"),
        ({"artifacts": [f"{number}.txt" for number in range(20_000)]}, r"it has \d+ artifacts, and 10000"),
        ({"tags": {"x": "y" * 9000}}, "the value of its tag x is longer than 8000"),
        ({"tags": {"../x": "y"}}, r"a tag has the name '../x', which no store takes"),
        ({"tags": {"it's": "y"}}, "which no store takes"),
        ({"tags": {"bits\u202e": "4"}}, r"'bits\\u202e', which no store takes"),
        ({"metrics": [["a\nb", 1.0, 1, 0]]}, "a metric has the name"),
        ({"metrics": [["a", 10**400, 1, 0]]}, r"damaged in line \d+ \(its metrics cannot be read\)"),
        ({"metrics": [["a", True, 1, 0]]}, "its metrics cannot be read"),
        ({"metrics": [["a", "many", 1, 0]]}, "its metrics cannot be read"),
        ({"metrics": [["a", float("nan"), 1, 0]]}, "its metrics cannot be read"),
        ({"metrics": [["a", 1.0, 10**30, 0]]}, "its metrics cannot be read"),
        ({"metrics": [["a", 1.0]]}, "its metrics cannot be read"),
        ({"metrics": {"a": 1.0}}, "its metrics cannot be read"),
        ({"tags": {"x": "\ud800"}}, "its tags cannot be read"),
        ({"tags": {"x": "\0"}}, "its tags cannot be read"),
        ({"tags": {"x": 4}}, "its tags cannot be read"),
        ({"tags": ["x"]}, "its tags cannot be read"),
        ({"deleted": 1}, "its deleted cannot be read"),
        ({"status": "FINE", "at": 1}, "its status cannot be read"),
        ({"status": "FINISHED"}, "it lacks at"),
        ({"datasets": [{"name": "a"}]}, "its datasets cannot be read"),
        ({"surprise": 1}, "it holds 'surprise', which no journal has"),
        ({"artifacts": ["../../outside.txt"]}, "leads out of it"),
        ({"artifacts": ["/etc/hostname"]}, "leads out of it"),
        ({"artifacts": ["deep/../deep/note.txt"]}, "leads out of it"),
        ({"artifacts": [""]}, "leads out of it"),
        ({"artifacts": ["missing.txt"]}, "lacks its artifact missing.txt"),
        ({"tags": {PARENT_TAG: "0" * 32}}, "which is missing; copy the whole journal"),
        ({"tags": {"fingerprint": "f" * 64}}, "its fingerprint is not that of its fingerprint.json"),
    ],
    ids=lambda value: str(value)[:50].encode("ascii", "replace").decode() if isinstance(value, dict) else "",
)
def test_a_record_that_no_journal_has_is_refused(journal, tracker, fields, message):
    add(journal, record(journal), **fields)
    refused(journal, tracker, message)


def test_a_parameter_that_has_two_values_is_refused_before_the_store_refuses_it(journal, tracker):
    add(journal, record(journal), parameters={"quant.bits": "2"})
    refused(journal, tracker, "its parameter 'quant.bits' has two values")


def test_runs_that_lie_above_themselves_are_refused(journal, tracker):
    one, two = journal.start("one", tags={}), journal.start("two", tags={})
    journal.client.set_tag(one.run_id, PARENT_TAG, two.run_id)
    journal.client.set_tag(two.run_id, PARENT_TAG, one.run_id)
    refused(journal, tracker, "it lies below itself")


def test_brackets_in_brackets_are_no_recursion(journal, tracker):
    key = record(journal)
    with records_of(journal, key).open("a") as file:
        file.write('{"tags": ' + "[" * 200_000 + "\n")
    refused(journal, tracker, "it is no JSON")


@pytest.mark.parametrize("beat", ["", "yesterday", "2026-01-01T00:00:00", "9" * 5000])
def test_an_unfinished_run_whose_last_beat_is_no_time_is_refused(journal, tracker, beat):
    run = journal.start("cell", tags={})
    journal.client.set_tag(run.run_id, "heartbeat.at", beat)
    refused(journal, tracker, "its heartbeat.at is no time")


def test_a_process_with_an_impossible_number_is_no_traceback(journal, tracker):
    run = journal.start("cell", tags={})
    journal.client.set_tag(run.run_id, "heartbeat.pid", "9" * 30)
    assert sync(journal.folder, tracker, now=LATER).open == 1


def link_artifact(run: Path, outside: Path) -> None:
    (run / "artifacts" / "deep" / "note.txt").unlink()
    (run / "artifacts" / "deep" / "note.txt").symlink_to(outside)


def hard_link_artifact(run: Path, outside: Path) -> None:
    (run / "artifacts" / "deep" / "note.txt").unlink()
    os.link(outside, run / "artifacts" / "deep" / "note.txt")


def link_folder(run: Path, outside: Path) -> None:
    shutil.rmtree(run / "artifacts" / "deep")
    (outside.parent / "note.txt").write_text("secret")
    (run / "artifacts" / "deep").symlink_to(outside.parent)


def link_run(run: Path, outside: Path) -> None:
    run.rename(outside.parent / "elsewhere")
    run.symlink_to(outside.parent / "elsewhere")


def link_records(run: Path, outside: Path) -> None:
    (run / RECORDS).rename(outside.parent / "records")
    (run / RECORDS).symlink_to(outside.parent / "records")


def pipe_records(run: Path, outside: Path) -> None:
    (run / RECORDS).unlink()
    os.mkfifo(run / RECORDS)


def pipe_artifact(run: Path, outside: Path) -> None:
    (run / "artifacts" / "deep" / "note.txt").unlink()
    os.mkfifo(run / "artifacts" / "deep" / "note.txt")


def link_lock(run: Path, outside: Path) -> None:
    (run.parent / ".sync.lock").symlink_to(outside)


def grow_artifact(run: Path, outside: Path) -> None:
    os.truncate(run / "artifacts" / "deep" / "note.txt", 2**40)


def grow_records(run: Path, outside: Path) -> None:
    os.truncate(run / RECORDS, 2**40)


def rename_run(run: Path, outside: Path) -> None:
    run.rename(run.parent / "x' or tags.kind = 'cell")


PLACES = [link_artifact, hard_link_artifact, link_folder, link_run, link_records, pipe_records, pipe_artifact]
PLACES += [link_lock, grow_artifact, grow_records, rename_run]


@pytest.mark.parametrize("place", PLACES)
def test_what_lies_elsewhere_or_is_no_file_is_refused_and_left_as_it_is(journal, tracker, tmp_path, place):
    outside = tmp_path / "outside" / "passwords.txt"
    outside.parent.mkdir()
    outside.write_text("secret")
    place(journal.folder / record(journal), outside)
    refused(
        journal, tracker, "cannot be imported: (it is a link or no|it has 1099511627776 bytes|its folder has no name)"
    )
    assert outside.read_text() == "secret"


def test_an_artifact_that_is_not_what_was_logged_is_refused(journal, tracker):
    key = record(journal)
    (journal.folder / key / "artifacts" / "deep" / "note.txt").write_text("b")
    refused(journal, tracker, "is not what its run logged; copy the journal again")


def test_a_journal_from_before_artifacts_had_hashes_is_imported(journal, tracker):
    path = records_of(journal, record(journal))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "sha256"}) + "\n" for line in lines))
    assert len(sync(journal.folder, tracker).imported) == 2


def test_another_journal_under_the_key_of_one_changes_nothing(journal, tracker, tmp_path):
    key = record(journal)
    ids = sync(journal.folder, tracker).imported
    before = tracker.client.get_run(ids[key])
    other = Journal(tmp_path / "other")
    run = create(other, "cell·4b", tags={"kind": "cell"})
    (other.folder / run).rename(other.folder / key)
    other.client.set_terminated(key, "FINISHED")
    for _ in ("as a run", "as one that was taken back"):
        with pytest.raises(
            ReliabitError, match=f"a run {key} that is not the one imported under this name before"
        ) as no:
            sync(other.folder, tracker)
        assert str(other.folder) in str(no.value)
        other.client.delete_run(key)
    found = tracker.client.get_run(ids[key])
    assert str(found) == str(before), "not a number is not itself"
    assert artifacts_of(found) == artifacts_of(before)


def test_a_copy_of_a_journal_that_went_on_is_the_same_journal(journal, tracker, tmp_path):
    key = record(journal)
    ids = sync(journal.folder, tracker).imported
    shutil.copytree(journal.folder, tmp_path / "copy")
    copy = Journal(tmp_path / "copy")
    assert sync(copy.folder, tracker) == Synced(imported={}, unchanged=2, open=0)
    copy.client.set_tag(key, "later", "x")
    assert sync(copy.folder, tracker).imported == {key: ids[key]}
    with pytest.raises(ReliabitError, match="is not the one imported"):
        sync(journal.folder, tracker)


def test_a_store_that_takes_no_more_than_half_is_left_without_the_other_half(journal, tracker, monkeypatch):
    from mlflow.exceptions import MlflowException

    def refuse(*_args, **_named):
        raise MlflowException("no such\ndata set")

    record(journal)
    with monkeypatch.context() as patched:
        patched.setattr("reliabit.tracking.journal.sync._finish", refuse)
        with pytest.raises(ReliabitError, match=r"does not take the journal .* \(no such data set\); nothing of it"):
            sync(journal.folder, tracker)
    assert tracker.client.search_runs([tracker.experiment_id]) == []
    assert len(sync(journal.folder, tracker).imported) == 2


def test_what_a_run_of_ours_says_of_odd_bytes_can_be_imported(journal, tracker):
    with pytest.raises(ReliabitError), journal.run("cell", tags={}):
        raise ReliabitError("no file \udcff\0; restore it")
    (run_id,) = sync(journal.folder, tracker).imported.values()
    assert tracker.client.get_run(run_id).data.tags["failure.reason"] == "no file ?\ufffd; restore it"


VALUES = [None, True, -1, 0, 1.5, 10**30, -(2**63) - 1, 1e308, float("nan"), float("inf"), "", "x", "\0", "\x1b[2J"]
VALUES += [
    "\u202e",
    "\ud800",
    "../..",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": {}},
    [None] * 4,
    {"\0": "x"},
    "kind",
    "promotion",
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Records with something wrong in them: bits, bytes, lines, or a value of a line."""
    lines = content.splitlines(keepends=True)
    number = chance.randrange(len(lines))
    kind = chance.choice(["bits", "cut", "swap", "twice", "value", "value", "value", "value"])
    if kind == "bits":
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 8])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        return bytes(damaged)
    if kind == "cut":
        start = chance.randrange(len(content))
        return content[:start] + content[start + chance.randrange(200) :]
    if kind == "swap":
        chance.shuffle(lines)
    if kind == "twice":
        lines.insert(number, lines[number])
    if kind == "value":
        record = json.loads(lines[number])
        node, key = record, chance.choice(list(record))
        while isinstance(node[key], dict | list) and node[key] and chance.random() < 0.7:
            node = node[key]
            key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        if isinstance(node, dict) and chance.random() < 0.2:
            value = node.pop(key)
            key = str(chance.choice(VALUES))
            node[key] = value
        else:
            node[key] = chance.choice(VALUES)
        lines[number] = (json.dumps(record) + "\n").encode()
    return b"".join(lines)


def test_whatever_is_changed_in_a_journal_it_is_refused_in_a_sentence_or_taken(journal, tracker):
    chance = random.Random(15)
    key = record(journal)
    path = records_of(journal, key)
    content = path.read_bytes()
    taken, told = [], []
    for _ in range(1500):
        changed = mutated(content, chance)
        path.write_bytes(changed)
        try:
            check_places(journal.folder)
            check_runs(read_runs(journal.folder))
            taken.append(changed)
        except ReliabitError as error:
            told.append(str(error))
    assert [one for one in told if not one.isprintable() or len(one) > 1000] == []
    assert len(told) > 700
    assert len(taken) > 20
    # What passes the check is taken by a real store as well.
    for changed in chance.sample(taken, 20):
        path.write_bytes(changed)
        elsewhere = journal.folder.parent / "import"
        shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.copytree(journal.folder, elsewhere)
        target = tracker_at(journal.folder.parent, experiment=str(len(changed)) + str(chance.random()))
        sync(elsewhere, target, now=LATER)
