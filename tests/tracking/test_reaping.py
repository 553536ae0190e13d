import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reliabit.tracking.heartbeat import (
    BEAT,
    MACHINE,
    PID,
    SILENCE_SECONDS,
    cause_of_death,
    heartbeat,
    heartbeat_tags,
)
from reliabit.tracking.reaping import reap
from reliabit.tracking.tracker import Journal
from tracking.stores import create, runs_of, tracker_at

TESTS = Path(__file__).parents[1]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def start_worker(folder: Path, *names: str, parent: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(TESTS / "tracking" / "beating_worker.py"), str(folder), parent, *names],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"},
    )


def gone_process() -> dict[str, str]:
    """The heartbeat of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return {**heartbeat_tags(), PID: str(process.pid), BEAT: NOW.isoformat()}


def elsewhere(*, at: datetime) -> dict[str, str]:
    return {**heartbeat_tags(), MACHINE: "0", BEAT: at.isoformat()}


def test_killed_processes_are_reaped_and_living_ones_are_not(folder):
    tracker = tracker_at(folder)
    killed, living = start_worker(folder, "sweep", "first", "second"), start_worker(folder, "alive")
    try:
        ids = killed.stdout.readline().split()
        (alive,) = living.stdout.readline().split()
        assert reap(tracker) == []
        killed.kill()
        killed.wait()
        with tracker.run("done", tags=heartbeat_tags()):
            pass
        found = reap(tracker)
        assert {entry.run_id for entry in found} == set(ids)
        assert {entry.name for entry in found} == {"sweep", "first", "second"}
        assert all(f"process {killed.pid} on " in entry.reason and " is gone" in entry.reason for entry in found)
        assert reap(tracker) == []
        states = {run.info.run_id: run.info.status for run in runs_of(tracker)}
        assert [states[run] for run in ids] == ["KILLED"] * 3
        assert states[alive] == "RUNNING"
        data = tracker.client.get_run(ids[1])
        assert data.data.tags["failure.type"] == "Killed"
        assert "is gone" in data.data.tags["failure.reason"]
        assert abs(data.info.end_time / 1000 - datetime.fromisoformat(data.data.tags[BEAT]).timestamp()) < 0.01
        _beats_go_on(tracker, alive)
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
    assert [entry.run_id for entry in reap(tracker)] == [alive]


def _beats_go_on(tracker, run_id):
    first = tracker.client.get_run(run_id).data.tags[BEAT]
    deadline = time.monotonic() + 20
    while tracker.client.get_run(run_id).data.tags[BEAT] <= first:
        assert time.monotonic() < deadline, "no beat in 20 s"
        time.sleep(0.05)


@pytest.fixture(params=["store", "journal"])
def anywhere(request, folder, tmp_path):
    """A store, and a journal, which the same code must reap."""
    if request.param == "journal":
        return Journal(tmp_path / "journal")
    return tracker_at(folder, experiment=request.node.name)


def test_a_parent_is_spared_while_a_run_below_it_may_be_alive(anywhere):
    gone = gone_process()
    sweep = create(anywhere, "sweep", tags=gone)
    group = create(anywhere, "group", tags=gone, parent=sweep)
    living = create(anywhere, "living", tags=heartbeat_tags(), parent=group)
    dead = create(anywhere, "dead", tags=gone, parent=group)
    assert [entry.run_id for entry in reap(anywhere)] == [dead]
    anywhere.client.set_terminated(living, "FINISHED")
    assert {entry.run_id for entry in reap(anywhere)} == {sweep, group}
    assert reap(anywhere) == []
    found = anywhere.client.get_run(sweep)
    assert found.info.status == "KILLED"
    assert found.info.end_time == int(NOW.timestamp() * 1000)
    assert found.data.tags["failure.type"] == "Killed"


def test_runs_without_a_heartbeat_are_left_alone_and_keep_their_parent(tracker):
    sweep = create(tracker, "sweep", tags=gone_process())
    create(tracker, "notebook", tags={}, parent=sweep)
    assert reap(tracker) == []


def test_a_run_that_ended_while_it_was_looked_for_stays_as_it_is(tracker, monkeypatch):
    run_id = create(tracker, "just in time", tags=gone_process())
    listed = tracker.client.search_runs([tracker.experiment_id])
    tracker.client.set_terminated(run_id, "FINISHED")
    monkeypatch.setattr(tracker.client, "search_runs", lambda *_, **__: listed)
    assert reap(tracker) == []
    found = tracker.client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert "failure.type" not in found.data.tags


def test_more_runs_than_a_page_holds_are_reaped(anywhere, monkeypatch):
    for number in range(5):
        create(anywhere, f"run {number}", tags=gone_process())
    search = anywhere.client.search_runs
    monkeypatch.setattr(anywhere.client, "search_runs", lambda *args, **kw: search(*args, **kw, max_results=2))
    assert len(reap(anywhere)) == 5


@pytest.mark.parametrize(("seconds", "dead"), [(0, False), (-60, False), (SILENCE_SECONDS, False), (601, True)])
def test_a_process_elsewhere_is_dead_after_a_long_silence_only(seconds, dead):
    tags = elsewhere(at=NOW - timedelta(seconds=seconds))
    assert (cause_of_death(tags, now=NOW) is not None) == dead
    assert (cause_of_death(tags, now=NOW) is not None) == dead


def test_a_process_here_is_dead_at_once_and_never_for_silence():
    assert cause_of_death({**gone_process(), BEAT: NOW.isoformat()}, now=NOW) is not None
    assert cause_of_death({**heartbeat_tags(), BEAT: NOW.isoformat()}, now=NOW + timedelta(days=9)) is None


@pytest.mark.parametrize("tags", [{}, {PID: "1"}, {**heartbeat_tags(), PID: "x"}, {**heartbeat_tags(), BEAT: "soon"}])
def test_what_says_nothing_of_a_process_is_not_dead(tags):
    assert cause_of_death(tags, now=NOW) is None


def test_a_beat_that_cannot_be_written_does_not_disturb_the_run(caplog):
    beats = []

    class Flaky:
        run_id = "r"

        def set_tags(self, tags):
            beats.append(tags)
            if 1 < len(beats) < 5:
                raise OSError("the database is locked")

    with heartbeat(Flaky(), every=0.01):
        deadline = time.monotonic() + 10
        while len(beats) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
    ended = len(beats)
    assert ended >= 8, "it beats again after failures"
    assert caplog.text.count("cannot be written: the database is locked") == 1
    time.sleep(0.1)
    assert len(beats) == ended, "nothing beats after the run"
