"""How busy the machine was: sampled while a run is open, by the clock, and never in its way."""

import time

import psutil

from reliabit.tracking.system_metrics import system_metrics


class Kept:
    def __init__(self, *, broken=False):
        self.samples, self.broken = [], broken

    def log_metrics(self, metrics, *, step=0):
        if self.broken:
            raise OSError("no space left")
        self.samples.append((step, metrics))


def test_a_short_run_is_sampled_once_as_it_ends():
    run = Kept()
    with system_metrics(run, every=60):
        pass
    [(step, found)] = run.samples
    assert step == 0
    total = psutil.virtual_memory().total / 1e6
    assert 0 < found["usage/system_memory_usage_megabytes"] < total
    assert 0 <= found["usage/cpu_utilization_percentage"] <= 100


def test_the_first_sample_is_of_the_run():
    """A processor that is kept busy shows, however short the run."""
    run = Kept()
    with system_metrics(run, every=60):
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pass
    assert run.samples[0][1]["usage/cpu_utilization_percentage"] > 10


def test_a_long_run_is_sampled_again_and_again():
    run = Kept()
    with system_metrics(run, every=0.05):
        time.sleep(0.5)
    assert len(run.samples) >= 3
    assert [step for step, _ in run.samples] == list(range(len(run.samples)))


def test_what_cannot_be_written_does_not_disturb(caplog):
    with system_metrics(Kept(broken=True), every=0.01):
        time.sleep(0.1)
    assert caplog.text.count("no space left") == 1
