"""A service under pressure: full queues, late answers, defects, and clients that leave."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from serving.requests import ROW, wait_until


def test_a_full_queue_says_when_to_come_back(host, monkeypatch):
    entered, gate = threading.Event(), threading.Event()
    answer = host.answer

    def held(questions):
        entered.set()
        assert gate.wait(20)
        return answer(questions)

    monkeypatch.setattr(host, "answer", held)
    with TestClient(create_application(host, limits=Limits(queue=8))) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/batch", json={"questions": [ROW] * 8})
        assert entered.wait(20)
        waiting = pool.submit(client.post, "/batch", json={"questions": [ROW] * 8})
        wait_until(lambda: client.app.state.service.waiting() == 8)
        turned_away = client.post("/answer", json=ROW)
        gate.set()
        assert (turned_away.status_code, int(turned_away.headers["Retry-After"]) >= 1) == (503, True)
        assert "too many questions are waiting" in turned_away.json()["detail"]
        assert first.result().status_code == waiting.result().status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(host, monkeypatch):
    gate = threading.Event()
    answer = host.answer
    monkeypatch.setattr(host, "answer", lambda questions: gate.wait(20) and answer(questions))
    with TestClient(create_application(host, limits=Limits(answer_seconds=0.1))) as client:
        answered = client.post("/answer", json=ROW)
        gate.set()
        assert (answered.status_code, "no answer within 0.1 s" in answered.json()["detail"]) == (504, True)
        assert client.get("/healthz").status_code == 200


def test_a_defect_is_a_plain_500_and_the_service_goes_on(host, monkeypatch, caplog):
    answer = host.answer
    monkeypatch.setattr(host, "answer", lambda _: 1 / 0)
    with TestClient(create_application(host, limits=Limits())) as client:
        answered = client.post("/answer", json=ROW)
        assert (answered.status_code, answered.json()) == (500, {"detail": "the service failed; its log says why"})
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.setattr(host, "answer", answer)
        assert client.post("/answer", json=ROW).status_code == 200


def test_a_client_that_leaves_is_not_waited_for(host, monkeypatch):
    """At the level of ASGI: the disconnect comes while the question waits."""
    entered, gate, asked = threading.Event(), threading.Event(), []
    answer = host.answer

    def held(questions):
        asked.append(len(questions))
        entered.set()
        assert gate.wait(20)
        return answer(questions)

    monkeypatch.setattr(host, "answer", held)
    application = create_application(host, limits=Limits())
    content = json.dumps(ROW).encode()

    async def request(leaves):
        sent, messages = [], iter([{"type": "http.request", "body": content}])

        async def receive():
            for message in messages:
                return message
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"x"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/answer", "raw_path": b"/answer", "query_string": b"",
                 "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": ""}  # fmt: skip
        await application(scope, receive, send)
        return sent

    async def scenario():
        service = application.state.service
        async with service.lifespan(application):
            stays, leaves = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(request(stays))
            await asyncio.to_thread(entered.wait, 20)
            second = asyncio.create_task(request(leaves))
            while not service.waiting():
                await asyncio.sleep(0.01)
            leaves.set()
            assert await second == [], "nothing is sent to one who left"
            assert not service.waiting()
            gate.set()
            return await first

    assert asyncio.run(scenario())[0]["status"] == 200
    assert asked == [1]
    text = application.state.service.instruments.text().decode()
    assert 'reliabit_requests_total{path="/answer",status="499"} 1.0' in text
