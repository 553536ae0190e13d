import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reliabit.tracking import heartbeat
from reliabit.tracking.heartbeat import ProcessIdentity, has_ended, is_here, this_process

SRC = str(Path(__file__).parents[2] / "src")


def identity_of(pid: int) -> ProcessIdentity:
    return replace(this_process(), pid=pid, born=heartbeat._look(pid).born)


@pytest.fixture(params=["proc", "ps"])
def system(request, monkeypatch, tmp_path):
    """Both ways to look at a process."""
    if request.param == "ps":
        monkeypatch.setattr(heartbeat, "PROC", tmp_path)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("system")
def test_a_process_has_ended_once_it_is_killed_and_not_before(sleeper):
    identity = identity_of(sleeper.pid)
    assert not has_ended(identity)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(identity), "a zombie"
    sleeper.wait()
    assert has_ended(identity), "gone"


@pytest.mark.usefixtures("system")
def test_an_id_that_was_given_to_another_process_does_not_deceive(sleeper):
    assert has_ended(replace(identity_of(sleeper.pid), born="1"))


def test_a_stopped_process_is_alive(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    assert not has_ended(identity_of(sleeper.pid))


def test_a_name_with_blanks_and_parentheses_is_read(tmp_path):
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert not has_ended(identity_of(process.pid))
    finally:
        process.kill()
        process.wait()


def test_every_process_sees_itself_as_others_see_it():
    code = "from reliabit.tracking.heartbeat import this_process as p; print(p(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": SRC}
    )
    try:
        assert process.stdout.readline().strip() == str(identity_of(process.pid))
    finally:
        process.communicate("\n")


def test_this_process_is_here_and_alive_and_one_of_another_machine_is_not():
    own = this_process()
    assert own.pid == os.getpid()
    assert is_here(own)
    assert not has_ended(own)
    assert not is_here(replace(own, machine="0"))
