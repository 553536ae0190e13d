"""The tests' own safety net: what a stuck, failed or interrupted test started does not live on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leftovers import alive, gone

CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
from leftovers import *
"""

TESTS = """
import subprocess
import time

import pytest

# A shell that starts one that sleeps, and one that leaves its parent: as services, servers and pools do.
TREE = "sleep 300 & echo $! >> PIDS; (setsid sleep 300 & echo $! >> PIDS); echo $$ >> PIDS; wait"

@pytest.fixture(params=[False, True], ids=["same session", "own session"], autouse=True)
def start(request):
    before = open("PIDS").read().split()

    def start():
        process = subprocess.Popen(["/bin/bash", "-c", TREE], start_new_session=request.param)
        while len(open("PIDS").read().split()) < len(before) + 3:
            time.sleep(0.01)
    return start

@pytest.mark.seconds(0.5)
def test_stuck(start):
    start()
    time.sleep(300)

@pytest.mark.seconds(1)
def test_stuck_in_run(start):
    subprocess.run(["/bin/bash", "-c", TREE], capture_output=True)

@pytest.mark.seconds(0.5)
def test_stuck_and_swallowing(start):
    start()
    try:
        time.sleep(300)
    except Exception:
        time.sleep(300)

def test_failed(start):
    start()
    assert False

def test_careless(start):
    start()
"""

WAITING = (
    TESTS.partition("@pytest.mark.seconds")[0]
    + """
def test_it(start):
    start()
    time.sleep(300)
"""
)


def write_tests(folder, text):
    pids = folder / "pids"
    pids.touch()
    (folder / "conftest.py").write_text(CONFTEST.format(tests=str(Path(__file__).parent)))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    seconds: limit\n    slow: slow\n")
    (folder / "test_inner.py").write_text(text.replace("PIDS", str(pids)))
    return pids


def run_pytest(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.medium
def test_what_a_test_started_ends_with_it(tmp_path):
    pids = write_tests(tmp_path, TESTS)
    with run_pytest(tmp_path) as inner:
        output, _ = inner.communicate(timeout=120)
    assert "8 failed, 2 passed" in output, output
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 30
    assert [pid for pid in found if alive(pid)] == []


@pytest.mark.medium
def test_a_run_that_is_told_to_end_takes_along_what_it_started(tmp_path):
    pids = write_tests(tmp_path, WAITING)
    with run_pytest(tmp_path) as inner:
        end = time.monotonic() + 60
        while len(pids.read_text().split()) < 3:
            assert time.monotonic() < end
            time.sleep(0.02)
        inner.send_signal(signal.SIGTERM)
        inner.communicate(timeout=60)
    assert all(gone(int(pid)) for pid in pids.read_text().split())
