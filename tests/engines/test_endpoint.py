import threading
import time

import pytest

from engines.served import completion, served, token
from reliabit.engines.endpoint import Endpoint
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError

FINE = completion("red", [token("red", 0.5), token("</s>", 0.5)])


def settings(url, **values):
    return EngineConfig(name="openai", url=url, **values)


def test_responses_come_in_the_order_of_requests_a_few_at_a_time():
    under_way, most, lock = 0, 0, threading.Lock()

    def answer(body):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02 if body["number"] % 3 else 0.04)
        with lock:
            under_way -= 1
        return 200, {**FINE, "number": body["number"]}

    with served(answer) as (url, _):
        endpoint = Endpoint(settings(url, concurrency=3))
        found = list(endpoint.complete_all({"number": n} for n in range(12)))
    assert [one.response["number"] for one in found] == list(range(12))
    assert most == 3
    assert all(one.seconds > 0.02 for one in found)


def test_a_request_is_made_when_its_turn_comes():
    asked = []

    def bodies():
        for number in range(6):
            asked.append(number)
            yield {"number": number}

    def answer(body):
        assert len(asked) <= body["number"] + 2
        return 200, FINE

    with served(answer) as (url, _):
        list(Endpoint(settings(url, concurrency=1)).complete_all(bodies()))


def test_errors_of_the_server_are_tried_again():
    tries = []

    def answer(body):
        tries.append(1)
        return (503, {"error": {"message": "busy"}}) if len(tries) < 3 else (200, FINE)

    with served(answer) as (url, _):
        assert next(Endpoint(settings(url)).complete_all([{}])).response == FINE
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("status", "tries", "says"),
    [
        (400, 1, r"refused a request \(status 400\): .*too long"),
        (422, 1, r"refused a request \(status 422\)"),
        (401, 1, r"refuses the key \(status 401\); set the right one in \$OPENAI_API_KEY"),
        (500, 3, r"failed 3 times \(status 500\)"),
    ],
)
def test_what_the_endpoint_refuses_is_said_in_a_sentence(status, tries, says):
    with served(lambda body: (status, {"error": {"message": "too long"}})) as (url, bodies):
        with pytest.raises(ReliabitError, match=says) as refused:
            list(Endpoint(settings(url, retries=2)).complete_all([{}]))
        assert len(bodies) == tries
    assert "\n" not in str(refused.value)


def test_an_answer_that_does_not_come_is_waited_for_so_long():
    with served(lambda body: (time.sleep(0.3), (200, FINE))[1]) as (url, _):
        endpoint = Endpoint(settings(url, timeout=0.05, retries=0))
        with pytest.raises(ReliabitError, match="gave no answer within 0.05 s, 1 times"):
            list(endpoint.complete_all([{}]))
        # The first answer may take longer.
        assert next(endpoint.complete_all([{}], timeout=5.0)).response == FINE


def test_nobody_there_is_said():
    with pytest.raises(ReliabitError, match=r"http://127.0.0.1:9/v1 cannot be reached .*; start the server"):
        Endpoint(settings("http://127.0.0.1:9/v1", retries=0)).served_model()


def test_the_key_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "s3cret")
    with served(lambda body: (200, FINE)) as (url, bodies):
        list(Endpoint(settings(url, key_variable="OUR_KEY")).complete_all([{}]))
    assert bodies[0]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("models", "wanted", "found"),
    [(["tiny"], None, "tiny"), (["a", "b"], "b", "b"), (["a", "b"], None, None), (["a"], "c", None), ([], None, None)],
)
def test_the_model_is_the_one_that_is_named_or_the_only_one(models, wanted, found):
    with served(lambda body: (200, FINE), models=models) as (url, _):
        endpoint = Endpoint(settings(url, model=wanted))
        if found is None:
            with pytest.raises(ReliabitError, match=r"engine\.(url|model)="):
                endpoint.served_model()
        else:
            assert endpoint.served_model().name == found
            assert endpoint.served_model() == endpoint.served_model()


@pytest.mark.parametrize(
    "values",
    [{"url": None}, {"url": "localhost:8000"}, {"url": "http://me:pw@host/v1"}, {"url": "ftp://host"}],
)
def test_addresses_that_are_none_are_refused(values):
    with pytest.raises(ReliabitError, match=r"engine"):
        settings(**values).check("engine")


def test_an_address_that_lacks_its_version_is_guessed():
    with (
        served(lambda _: (404, {"detail": "Not Found"})) as (url, _),
        pytest.raises(ReliabitError, match=r"status 404.*engine\.url ends in the version, such as /v1"),
    ):
        list(Endpoint(settings(url)).complete_all([{}]))
