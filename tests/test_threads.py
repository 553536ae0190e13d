"""How many threads a process takes: what the environment says, what control groups allow, what others leave."""

import os

import pytest

from reliabit import threads
from reliabit.identity import is_transport
from reliabit.threads import choose_threads, free_cores, quota, running_elsewhere, threads_of, usable_cores


@pytest.mark.parametrize(
    ("environ", "number"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "2"}, 5),
    ],
)
def test_what_the_environment_says_is_obeyed(environ, number):
    assert choose_threads(environ=environ, running=lambda: 1000.0) == number


@pytest.mark.parametrize("said", ["", "0", "many", "-1"])
def test_what_is_no_number_says_nothing(said):
    assert choose_threads(environ={"OMP_NUM_THREADS": said}, running=lambda: 1e9) == 1


def test_an_idle_machine_is_used_whole():
    assert choose_threads(environ={}, running=lambda: 0.0) == max(1, int(usable_cores()))


@pytest.mark.parametrize(
    ("cores", "everywhere", "others", "free"),
    [(2, 2, 0, 2), (2, 2, 0.4, 1), (2, 2, 1, 1), (2, 2, 12, 1), (64, 64, 8, 56), (4, 64, 32, 2), (0.5, 8, 0, 1)],
)
def test_others_share_all_cores_alike(cores, everywhere, others, free):
    assert free_cores(cores, everywhere=everywhere, others=others) == free


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_max", ".max").replace("cfs", "cpu.cfs")).write_text(text)


def test_the_smallest_quota_of_a_group_and_those_above_it_counts(tmp_path):
    group(tmp_path / "cgroup" / "a" / "b", cpu_max="max 100000\n")
    group(tmp_path / "cgroup" / "a", cpu_max="150000 100000\n")
    group(tmp_path / "cgroup", cpu_max="400000 100000\n")
    (tmp_path / "of").write_text("0::/a/b\n")
    assert quota(of_process=tmp_path / "of", mounted=tmp_path / "cgroup") == 1.5


def test_groups_of_the_first_version_count_as_well(tmp_path):
    group(tmp_path / "cgroup" / "cpu,cpuacct" / "a", cfs_quota_us="50000\n", cfs_period_us="100000\n")
    group(tmp_path / "cgroup" / "cpu,cpuacct", cfs_quota_us="-1\n", cfs_period_us="100000\n")
    (tmp_path / "of").write_text("12:memory:/a\n4:cpu,cpuacct:/a\n")
    assert quota(of_process=tmp_path / "of", mounted=tmp_path / "cgroup") == 0.5


def test_without_groups_there_is_no_quota(tmp_path):
    assert quota(of_process=tmp_path / "none", mounted=tmp_path) == float("inf")
    group(tmp_path / "cgroup", cpu_max="nonsense\n")
    (tmp_path / "of").write_text("0::/\n")
    assert quota(of_process=tmp_path / "of", mounted=tmp_path / "cgroup") == float("inf")


def test_who_looks_does_not_count_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "PAUSE_SECONDS", 0.0)
    load = tmp_path / "loadavg"
    load.write_text("11.78 8.49 5.94 13/213 13530\n")
    assert running_elsewhere(load=load) == 12
    load.write_text("0.00 0.00 0.00 1/213 13530\n")
    assert running_elsewhere(load=load) == 0
    load.write_text("nonsense\n")
    assert running_elsewhere(load=load) == running_elsewhere(load=tmp_path / "none") == 0


def test_a_number_is_taken_as_it_is_and_threads_sleep_while_they_wait(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert threads_of(7) == 7
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    threads_of(7)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_run_is_the_same_however_many_there_are():
    assert is_transport("trainer.threads")
