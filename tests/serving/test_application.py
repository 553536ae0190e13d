"""The service as a client sees it; the model behind it is real."""

import base64
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from reliabit.errors import ReliabitError
from reliabit.serving.bundle.description import certificate_id
from reliabit.serving.hosting import FolderSource
from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from serving.requests import ROW, body, samples


def test_an_answer_says_all_that_is_promised(client, offline, served):
    rows = offline.table.select(range(30))
    answered = [client.post("/answer", json=body(row)) for row in rows]
    assert {one.status_code for one in answered} == {200}
    certificate = served.description.certificate(None)
    for one, answer, confidence in zip(answered, offline.answers, offline.confidence, strict=False):
        found = one.json()
        assert found["confidence"] == pytest.approx(confidence, abs=1e-4)
        assert found["abstained"] == (found["confidence"] < certificate.threshold)
        assert found["answer"] == (None if found["abstained"] else answer), "a withheld answer is not sent"
        assert found["threshold"] == certificate.threshold
        assert (found["risk"], found["delta"], found["run_id"]) == (0.1, 0.1, "0123456789abcdef")
        assert found["certificate_id"] == certificate_id(certificate)
        assert found["model_version"] == FolderSource(offline.bundle).current().version
    assert {one.json()["abstained"] for one in answered} == {True, False}


def test_a_form_with_a_file_is_answered_alike(client, offline):
    row = offline.table[0]
    expected = client.post("/answer", json=body(row, risk=0.3)).json()
    form = {"question": row["question"], "risk": "0.3"}
    found = client.post("/answer", data=form, files={"image": ("a.png", row["image"], "image/png")})
    assert found.json() == pytest.approx(expected)
    wrapped = base64.encodebytes(row["image"]).decode()
    assert client.post("/answer", json=body(row, risk=0.3) | {"image": wrapped}).json() == pytest.approx(expected)


def test_a_batch_is_answered_in_order(client, offline):
    rows = list(offline.table.select(range(20)))
    answered = client.post("/batch", json={"questions": [body(row, risk=0.3) for row in rows]}).json()["answers"]
    np.testing.assert_allclose([one["confidence"] for one in answered], offline.confidence[:20], atol=1e-4)
    assert {one["risk"] for one in answered} == {0.3}


def test_many_clients_at_once_get_their_own_answers(client, offline):
    """Threads send at once; questions share batches, and each answer is that of its question."""
    rows = list(offline.table.select(range(64)))
    with ThreadPoolExecutor(16) as pool:
        answered = list(pool.map(lambda row: client.post("/answer", json=body(row, risk=0.3)).json(), rows))
    np.testing.assert_allclose([one["confidence"] for one in answered], offline.confidence[:64], atol=1e-4)
    for one, answer in zip(answered, offline.answers, strict=False):
        assert one["answer"] in (None, answer)
    counted = samples(client)
    assert counted["reliabit_batch_questions_sum",] == 64
    assert counted["reliabit_batch_questions_count",] < 64, "no two questions ever shared a batch"


def test_health_tells_what_serves(client, served):
    health = client.get("/healthz").json()
    assert (health["status"], health["name"], health["run_id"]) == ("ok", "tiny·hqq·4b·s0", "0123456789abcdef")
    assert [one["risk"] for one in health["certificates"]] == [0.01, 0.1, 0.3]
    assert [one["threshold"] for one in health["certificates"]] == [
        served.description.certificate(risk).to_dict()["threshold"] for risk in (0.01, 0.1, 0.3)
    ]
    assert (health["default_risk"], health["drift_alarm"]) == (0.1, False)


def test_metrics_count_what_happened(client, offline):
    order = np.argsort(offline.confidence)
    rows = list(offline.table.select([*order[:6], *order[-6:]]))
    answered = [client.post("/answer", json=body(row)).json() for row in rows]
    client.post("/answer", json={})
    client.get("/nothing/here")
    found = samples(client)
    assert found["reliabit_requests_total", ("path", "/answer"), ("status", "200")] == 12
    assert found["reliabit_requests_total", ("path", "/answer"), ("status", "422")] == 1
    assert found["reliabit_requests_total", ("path", "other"), ("status", "404")] == 1
    assert found["reliabit_request_seconds_count", ("path", "/answer")] == 13
    withheld = sum(one["abstained"] for one in answered)
    assert found["reliabit_answers_total", ("outcome", "abstained"), ("risk", "0.1")] == withheld
    assert found["reliabit_answers_total", ("outcome", "given"), ("risk", "0.1")] == 12 - withheld
    assert found["reliabit_confidence_count",] == 12
    assert found["reliabit_confidence_bucket", ("le", "0.5")] == sum(one["confidence"] <= 0.5 for one in answered)
    assert found["reliabit_ready",] == 1
    assert found["reliabit_drift_answers",] == 12
    assert found["reliabit_abstention_rate", ("of", "served")] == pytest.approx(withheld / 12)


def test_drift_is_told_and_raised_by_questions_of_another_kind(client, offline):
    quiet = client.get("/drift").json()
    assert (quiet["alarm"], quiet["answers"], set(quiet["tests"])) == (False, 0, {"confidence", "abstention"})
    # Of all questions the one that the model is least sure of, again and again.
    row = offline.table[int(np.argmin(offline.confidence))]
    for _ in range(4):
        client.post("/batch", json={"questions": [body(row)] * 32})
    report = client.get("/drift").json()
    assert report["alarm"]
    assert report["answers"] == 128
    assert client.get("/healthz").json()["drift_alarm"]
    assert samples(client)["reliabit_drift_alarm",] == 1


def test_nothing_of_a_request_is_logged(client, caplog):
    caplog.set_level(logging.DEBUG)
    question = "is-my-secret-word red?"
    client.post("/answer", json=ROW | {"question": question})
    client.post("/answer", json=ROW | {"question": question, "risk": 5})
    client.post("/answer", json=ROW | {"question": question + "<|image_pad|>"})
    assert "is-my-secret-word" not in caplog.text
    assert "is-my-secret-word" not in client.get("/metrics").text


def test_browsers_are_told_to_be_strict(client, host):
    answered = client.get("/")
    assert answered.headers["X-Content-Type-Options"] == "nosniff"
    assert answered.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "access-control-allow-origin" not in client.get("/healthz", headers={"Origin": "https://elsewhere"}).headers
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.post("/answer", json=ROW, headers=foreign).status_code == 403
    with TestClient(create_application(host, limits=Limits(), hosts=("127.0.0.1", "[::1]"))) as local:
        for name, status in [("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("rebound.example", 403), ("", 403)]:
            assert local.get("/healthz", headers={"Host": name}).status_code == status


def test_the_openapi_document_shows_both_bodies(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/answer", "/batch", "/healthz", "/drift", "/metrics"}
    content = paths["/answer"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert content["application/json"]["schema"]["properties"]["image"]["contentEncoding"] == "base64"
    assert {"200", "413", "415", "422", "503"} <= set(paths["/answer"]["post"]["responses"])


def test_the_reference_page_needs_nothing_from_elsewhere(client):
    page = client.get("/docs")
    for part in ("POST /answer", "GET /drift", "multipart/form-data", "contentEncoding", "Too many", "certificate_id"):
        assert part.lower() in page.text.lower()
    assert "<script" not in page.text
    assert "http" not in page.text.replace("https://json-schema.org", "")
    assert "script-src" not in page.headers["Content-Security-Policy"]


def test_limits_are_above_zero():
    with pytest.raises(ReliabitError, match="the limit queue is 0; set it above zero"):
        Limits(queue=0)
