import logging
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.bundles import accepting, register
from registry.concurrent_work import ROUNDS, enter_and_leave, promote_slowly
from reliabit.errors import ReliabitError
from reliabit.registry import _lock as locks
from reliabit.registry._lock import registry_lock
from reliabit.registry.history import history
from reliabit.registry.promotion import promote
from reliabit.registry.versions import find_alias
from reliabit.tracking.heartbeat import BEAT, MACHINE, heartbeat_tags

PROJECT = Path(__file__).parents[2]
STORES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")


@pytest.fixture(scope="module")
def processes():
    """Six processes, copies of one that has imported MLflow: on a busy machine, six imports take a minute."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["registry.concurrent_work", *STORES])
    with pytest.MonkeyPatch.context() as patched:
        # The server of forks takes over no search path but this one.
        patched.setenv("PYTHONPATH", f"{PROJECT / 'src'}{os.pathsep}{PROJECT / 'tests'}")
        pool = context.Pool(6)
    with pool:
        yield pool


@contextmanager
def another(*arguments: str):
    """A process that is killed within what it does."""
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT / 'tests'}"}
    command = [sys.executable, str(PROJECT / "tests/registry/concurrent_work.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout.readline().strip() in ("held", "deciding")
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def locks_in(tracker) -> list[str]:
    return [model.name for model in tracker.client.search_registered_models() if ".lock" in model.name]


def test_six_processes_hold_it_one_after_the_other(folder, tracker, processes):
    pids = processes.map(enter_and_leave, [folder] * 6, chunksize=1)
    assert Counter((folder / "diary").read_text().split()) == Counter(str(pid) for pid in pids for _ in range(ROUNDS))
    assert not locks_in(tracker)


def test_six_processes_take_over_from_a_killed_one_and_still_never_meet(folder, tracker, processes):
    with another("hold", str(folder), "shared"):
        waiting = processes.map_async(enter_and_leave, [folder] * 6, chunksize=1)
        waiting.wait(timeout=2)
        assert not waiting.ready()
    assert len(waiting.get(timeout=120)) == 6
    assert not locks_in(tracker)


def test_two_promotions_at_once_end_with_one_champion_and_both_in_the_history(folder, tracker, processes):
    for content in ("a", "b", "c"):
        register(tracker, folder, name="contended", content=content)
    promote(tracker, "contended", "1", decide=accepting)
    outcomes = processes.starmap(promote_slowly, [(folder, "contended", "2"), (folder, "contended", "3")], chunksize=1)
    first, *both = history(tracker, "contended")
    assert (first.version, first.previous) == ("1", None)
    assert [attempt.number for attempt in both] == [2, 3]
    assert {attempt.version for attempt in both} == {"2", "3"}
    # The one that came second decided against the one that came first, not against the champion both had seen.
    assert [attempt.previous for attempt in both] == ["1", both[0].version]
    assert sorted(outcomes) == sorted(("accepted", attempt.previous) for attempt in both)
    assert find_alias(tracker, "contended", "champion").number == both[-1].version


def test_a_promotion_that_is_killed_is_in_the_history_and_holds_up_nobody(folder, tracker):
    for content in ("a", "b"):
        register(tracker, folder, name="killed", content=content)
    with another("die_deciding", str(folder), "killed", "1"):
        (running,) = history(tracker, "killed")
        assert (running.outcome, running.version) == ("running", "1")
    assert promote(tracker, "killed", "2", decide=accepting).previous is None
    assert [(attempt.version, attempt.outcome) for attempt in history(tracker, "killed")] == [
        ("1", "failed"),
        ("2", "accepted"),
    ]
    assert "before the alias was moved" in history(tracker, "killed")[0].reason


def test_a_living_holder_is_waited_for_and_named(tracker):
    with (
        registry_lock(tracker.client, "mine"),
        pytest.raises(ReliabitError, match=rf"process {os.getpid()} on .*again"),
        registry_lock(tracker.client, "mine", wait=0.6),
    ):
        pass
    with registry_lock(tracker.client, "mine", wait=0):
        assert locks_in(tracker) == ["mine.lock"]


def test_locks_of_two_models_do_not_meet(tracker):
    with registry_lock(tracker.client, "one"), registry_lock(tracker.client, "two", wait=0):
        assert sorted(locks_in(tracker)) == ["one.lock", "two.lock"]


def test_it_is_released_where_the_block_fails(tracker):
    with pytest.raises(ZeroDivisionError), registry_lock(tracker.client, "failing"):
        _ = 1 / 0
    assert not locks_in(tracker)


@pytest.mark.parametrize("remover_died_too", [False, True])
def test_a_holder_elsewhere_is_dead_after_a_long_silence_alone(tracker, caplog, remover_died_too):
    def marker(name, silent, token="0123456789abcdef"):
        beat = (datetime.now(UTC) - timedelta(seconds=silent)).isoformat()
        tags = {**heartbeat_tags(), MACHINE: "another", BEAT: beat, locks.TOKEN_TAG: token}
        tracker.client.create_registered_model(name, tags=tags)

    marker("far.lock", silent=60)
    with (
        pytest.raises(ReliabitError, match="another promotion holds the lock far.lock"),
        registry_lock(tracker.client, "far", wait=0),
    ):
        pass
    tracker.client.delete_registered_model("far.lock")
    marker("far.lock", silent=3600)
    if remover_died_too:
        marker("far.lock.01234567", silent=3600, token="fedcba9876543210")
    with caplog.at_level(logging.WARNING), registry_lock(tracker.client, "far", wait=0):
        assert locks_in(tracker) == ["far.lock"]
    assert "far.lock is taken over" in caplog.text
    assert not locks_in(tracker)


def test_a_holder_that_was_taken_for_dead_notices_and_leaves_the_new_lock_alone(tracker):
    with registry_lock(tracker.client, "woken") as held:
        held.check()
        tracker.client.delete_registered_model("woken.lock")
        tracker.client.create_registered_model("woken.lock", tags={locks.TOKEN_TAG: "of another"})
        with pytest.raises(ReliabitError, match="another took over the lock woken.lock"):
            held.check()
    assert locks_in(tracker) == ["woken.lock"]
    with (
        pytest.raises(ReliabitError, match="delete it if no promotion is running"),
        registry_lock(tracker.client, "woken", wait=0),
    ):
        pass
    tracker.client.delete_registered_model("woken.lock")


def test_one_that_comes_too_late_to_take_over_leaves_the_new_lock_alone(tracker):
    """Two that saw the same dead holder: the second acts after the first has taken its place."""
    with registry_lock(tracker.client, "late") as held:
        locks._remove_dead(tracker.client, "late.lock", token="the dead one's", until=0)
        held.check()
    assert not locks_in(tracker)


def test_only_one_at_a_time_removes_a_dead_holder(tracker):
    """Whoever removes it holds the lock of that holding from the look at it until it is gone."""
    dead = {**heartbeat_tags(), MACHINE: "another", BEAT: "2000-01-01T00:00:00+00:00", locks.TOKEN_TAG: "0123456789"}
    tracker.client.create_registered_model("dead.lock", tags=dead)
    with registry_lock(tracker.client, "removing") as other:
        tracker.client.rename_registered_model(other.run_id, "dead.lock.01234567")
        with (
            pytest.raises(ReliabitError, match="another promotion holds the lock dead.lock.01234567"),
            registry_lock(tracker.client, "dead", wait=0),
        ):
            pass
        assert sorted(locks_in(tracker)) == ["dead.lock", "dead.lock.01234567"]
        tracker.client.rename_registered_model("dead.lock.01234567", other.run_id)
    with registry_lock(tracker.client, "dead", wait=0):
        pass
    assert not locks_in(tracker)


def test_an_answer_that_got_lost_does_not_lock_out_the_one_who_asked(tracker, monkeypatch):
    """MLflow's client repeats a request over HTTP, and the second finds what the first made."""
    create = type(tracker.client).__getattr__

    def twice(client, name):
        found = create(client, name)
        if name != "create_registered_model":
            return found

        def repeated(*arguments, **named):
            found(*arguments, **named)
            return found(*arguments, **named)

        return repeated

    monkeypatch.setattr(type(tracker.client), "__getattr__", twice)
    with registry_lock(tracker.client, "repeated", wait=0):
        pass
    assert not locks_in(tracker)
