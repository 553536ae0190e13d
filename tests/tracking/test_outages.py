"""A tracking server that is away for a while, with a stand-in for its client."""

import logging

import pytest
import requests

from reliabit.errors import ReliabitError
from reliabit.tracking.store import outages
from reliabit.tracking.store._failures import guarded

URI = "http://me:hunter2@127.0.0.1:5000"


class Client:
    """Fails so many times, as MLflow's client does, and answers then."""

    def __init__(self, failures, kind=requests.exceptions.ConnectionError):
        self.failures, self.kind, self.asked = failures, kind, 0

    def get_run(self, run_id):
        self.asked += 1
        if self.asked <= self.failures:
            try:
                raise self.kind("refused")
            except requests.exceptions.RequestException as error:
                raise RuntimeError("API request failed") from error
        return run_id

    download_artifacts = get_run


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by what is slept."""
    now = [0.0]
    monkeypatch.setattr(outages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(outages.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.parametrize("asked", ["get_run", "download_artifacts"])
@pytest.mark.parametrize("kind", ["ConnectionError", "RetryError", "ReadTimeout"])
def test_a_server_that_comes_back_is_waited_for(asked, kind, clock, caplog):
    client = Client(5, getattr(requests.exceptions, kind))
    with caplog.at_level(logging.WARNING):
        assert getattr(guarded(client, uri=URI), asked)("a") == "a"
    assert clock[0] == 5 * outages.AGAIN_SECONDS
    assert caplog.messages == ["http://[redacted]@127.0.0.1:5000 is away; waiting for it, 8 minutes at most"]


def test_a_server_that_stays_away_is_waited_for_once(clock):
    client = Client(10_000)
    asked = guarded(client, uri=URI)
    for _ in range(2):
        # What closes the run after that is not to wait as long again.
        with pytest.raises(ReliabitError, match=r"the tracking server http://\[redacted\]@127.0.0.1:5000 was away for"):
            asked.get_run("a")
        assert clock[0] == outages.RESTART_SECONDS
    client.failures = 0
    assert asked.get_run("a") == "a"
    client.failures = client.asked + 1
    assert asked.get_run("a") == "a"


def test_whoever_interrupts_the_wait_does_not_wait_again(clock, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    client = Client(10_000)
    asked = guarded(client, uri=URI)
    monkeypatch.setattr(outages.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked.get_run("a")
    with pytest.raises(ReliabitError, match="was away for too long"):
        asked.get_run("a")


@pytest.mark.parametrize(
    ("uri", "kind"), [("sqlite:///m.db", requests.exceptions.ConnectionError), (URI, requests.exceptions.SSLError)]
)
def test_what_waiting_does_not_mend_is_told_at_once(uri, kind, clock):
    client = Client(1, kind)
    with pytest.raises(RuntimeError, match="API request failed"):
        guarded(client, uri=uri).get_run("a")
    assert clock[0] == 0


def test_runs_that_wait_for_a_server_do_not_count_as_dead():
    from reliabit.tracking.heartbeat import BEAT_SECONDS, SILENCE_SECONDS

    assert outages.RESTART_SECONDS + 2 * BEAT_SECONDS < SILENCE_SECONDS


def test_mlflow_s_own_pauses_do_not_pass_over_a_server_that_is_back(monkeypatch):
    # Set first, so that what `ask_often` sets is gone afterwards.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    outages.ask_often()
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    outages.ask_often()
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 9
