"""`make quick` as a newcomer runs it: a small, real table with intervals in a minute, and nobody takes it for more."""

import os
import resource

import pytest

from functional.checkout import Checkout

pytestmark = pytest.mark.slow

SECONDS = 60
"""Of processor time, on whatever machine: what the README promises of two cores."""


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    project = Checkout(tmp_path_factory.mktemp("project"))
    project.commit("Begin")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.environ["COLUMNS"] = "80"
    try:
        done = project.job("experiment=quick")
    finally:
        del os.environ["COLUMNS"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return project, done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_small_table_with_intervals_is_there_within_a_minute(quick):
    _, text, seconds = quick
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith(("none ", "hqq·4b ", "hqq·2b "))]
    assert [lines[row].split()[0] for row in rows] == ["none", "hqq·4b", "hqq·2b"]
    for row in rows:
        below = lines[row + 1].replace("[", "").replace("]", "").replace(",", "").split()
        assert len(below) == 6
        for value, low, high in zip(lines[row].split()[1:4], below[::2], below[1::2], strict=True):
            assert float(low) < float(value) < float(high)
    assert "978 questions" in text
    assert seconds < SECONDS


def test_it_ends_with_the_next_commands(quick):
    _, text, _ = quick
    last = text.splitlines()[-3:]
    assert any("make ui" in line for line in last)
    assert last[-1].split() == ["next", "python", "src/run.py", "-m", "quant.bits=2,3,4,8"]


def test_it_is_not_promoted_and_the_gate_says_why(quick):
    project, _, _ = quick
    for more in ([], ["registry.confidence=maxprob"]):
        done = project.reliabit("promote", *more)
        assert done.returncode == 1
        told = done.stdout.splitlines()[0]
        assert "No configuration passes. They were asked about 100 images of the split test, which is too few" in told
        assert told.endswith("Ask about more, as `make run` does, or name another sweep with --sweep.")
