"""Whatever a client sends, it is answered or told why not; never is it the service that fails."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from serving.requests import ROW, in_base64, picture


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({"json": {}}, 422, "image: Field required; question: Field required"),
        ({"json": [ROW]}, 422, "body: Input should be an object"),
        ({"json": ROW | {"extra": 1}}, 422, "extra: Extra inputs are not permitted"),
        ({"json": ROW | {"question": 3}}, 422, "question: Input should be a valid string"),
        ({"json": ROW | {"question": ""}}, 422, "question: String should have at least 1 character"),
        ({"json": ROW | {"question": " "}}, 422, "the question has no text"),
        ({"json": ROW | {"question": "x" * 2001}}, 422, "has 2001 characters and at most 2000 are taken"),
        ({"json": ROW | {"question": "red? " * 390}}, 422, "tokens and the model takes 1016"),
        ({"json": ROW | {"question": "a<|image_pad|>b"}}, 422, "which the model's template reserves"),
        ({"json": ROW | {"risk": 0.2}}, 422, "no threshold is certified for risk=0.2; choose one of 0.01, 0.1, 0.3"),
        ({"json": ROW | {"risk": "0.1"}}, 422, "risk: Input should be a valid number"),
        ({"json": ROW | {"risk": True}}, 422, "risk: Input should be a valid number"),
        ({"json": ROW | {"risk": 1}}, 422, "risk: Input should be less than 1"),
        ({"json": ROW | {"image": "data:image/png;base64,AAAA"}}, 422, "this is no base64"),
        ({"json": ROW | {"image": "é"}}, 422, "this is no base64"),
        ({"json": ROW | {"image": 5}}, 422, "image: Input should be"),
        ({"json": ROW | {"image": ""}}, 422, "the image is empty"),
        ({"json": ROW | {"image": in_base64(b"GIF89a...")}}, 415, "no PNG, JPEG or WebP"),
        ({"json": ROW | {"image": in_base64(picture(1, 900))}}, 422, "send another image"),
        ({"json": ROW | {"image": in_base64(picture(6000, 5000))}}, 413, "6000 x 5000 pixels"),
        ({"json": ROW | {"image": in_base64(bytes(11 * 2**20))}}, 413, "has 11534336 bytes"),
        ({"json": ROW | {"image": "A" * 17 * 2**20}}, 413, "the body is larger than"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"content": b"[" * 1000, "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 422, "has 100000 brackets"),
        ({"content": b'"\xff"', "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"content": b'{"question": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "neither application/json nor multipart"),
        ({"content": b"x"}, 415, "neither application/json nor multipart"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ({"data": {"question": "a"}, "files": {"image": b"x", "more": b"y"}}, 400, "the form cannot be read"),
        ({"data": {"question": "a", "image": "b"}, "files": {"risk": b"x"}}, 422, "the form's image is no file"),
        ({"data": {"question": "a", "risk": "few"}, "files": {"image": b"x"}}, 422, "risk: this is no number"),
        ({"data": {"question": "a", "risk": "nan"}, "files": {"image": b"x"}}, 422, "risk: Input should be greater"),
        ({"data": {"question": ["a", "b"]}, "files": {"image": b"x"}}, 422, "a field twice"),
    ],
)
def test_what_cannot_be_answered_is_refused_for_its_reason(client, sent, status, reason):
    answered = client.post("/answer", **sent)
    assert (answered.status_code, reason in answered.json()["detail"]) == (status, True), answered.text
    assert "\n" not in answered.json()["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_batch_names_what_is_wrong_in_it(client):
    for sent, status, reason in [
        ({"questions": [ROW, ROW | {"image": "AAAA"}]}, 415, "question 1: the image is no PNG"),
        ({"questions": [ROW, ROW, ROW | {"question": " "}]}, 422, "question 2: the question has no text"),
        ({"questions": [ROW, {}]}, 422, "questions.1.image: Field required"),
        ({"questions": []}, 422, "at least 1"),
        ({"questions": [ROW] * 33}, 422, "has 33 questions and at most 32 are taken"),
        (ROW, 422, "questions: Field required"),
    ]:
        answered = client.post("/batch", json=sent)
        assert (answered.status_code, reason in answered.json()["detail"]) == (status, True), answered.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def is_no_text(value):
    return not isinstance(value, str)


IMAGES = st.one_of(
    st.binary(max_size=200).map(in_base64),
    st.text(max_size=50),
    st.integers(0, 40).map(lambda end: in_base64(picture()[:end])),
    JSON_VALUES,
)
BODIES = st.one_of(
    JSON_VALUES,
    st.fixed_dictionaries(
        {"image": IMAGES, "question": st.text(max_size=60) | JSON_VALUES}, optional={"risk": JSON_VALUES}
    ),
    st.fixed_dictionaries({"image": st.just(ROW["image"]), "question": JSON_VALUES.filter(is_no_text)}),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=BODIES, path=st.sampled_from(["/answer", "/batch"]))
@example(sent={"questions": [{"image": ROW["image"], "question": {}}]}, path="/batch")
def test_wrong_json_is_always_the_clients_fault(client, sent, path):
    answered = client.post(path, content=json.dumps(sent), headers={"Content-Type": "application/json"})
    assert 400 <= answered.status_code < 500, answered.text
    assert isinstance(answered.json()["detail"], str)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(min_size=1, max_size=2000))
def test_any_text_is_answered_or_refused(client, question):
    """Whatever Unicode holds; the image is right."""
    answered = client.post("/answer", json=ROW | {"question": question})
    assert answered.status_code in (200, 422), answered.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=500) | st.binary(max_size=200).map(lambda b: b"--x\r\n" + b + b"\r\n--x--\r\n"),
    kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", "application/json", "", "a"]),
)
def test_noise_is_always_the_clients_fault(client, content, kind):
    answered = client.post("/answer", content=content, headers={"Content-Type": kind})
    assert 400 <= answered.status_code < 500, answered.text


def test_a_body_without_a_length_is_cut_off(host):
    """Only what arrives is counted, not what the header announces."""
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50:
            sent += 1
            yield bytes(1000)

    with TestClient(create_application(host, limits=Limits(image_bytes=2000, question_characters=10))) as client:
        answered = client.post("/answer", content=endless(), headers={"Content-Type": "application/json"})
    assert answered.status_code == 413
    assert "larger than the 7216 bytes" in answered.json()["detail"]
