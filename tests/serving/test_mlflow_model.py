"""The MLflow model: recorded as code, loaded without unpickling, and served by MLflow's own server."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

import reliabit.serving
from reliabit.errors import ReliabitError
from serving.running import free_port

CODE = Path(reliabit.serving.__file__).parent / "mlflow_model.py"


@pytest.fixture(scope="module")
def recorded(offline, tmp_path_factory):
    """The model in a store of its own."""
    tmp_path = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.create_experiment("serving", artifact_location=str(tmp_path / "artifacts"))
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(
            name="bundle", python_model=str(CODE), artifacts={"bundle": str(offline.bundle)}, pip_requirements=[]
        )
    yield info
    mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def no_pickle(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def rows_of(offline, count):
    return [
        {"image": base64.b64encode(row["image"]).decode(), "question": row["question"], "risk": 0.3}
        for row in offline.table.select(range(count))
    ]


def test_it_is_loaded_without_a_pickle_and_answers_as_offline(recorded, offline):
    folder = Path(mlflow.artifacts.download_artifacts(recorded.model_uri))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".bin", ".pt")]
    model = mlflow.pyfunc.load_model(recorded.model_uri)
    answered = model.predict(rows_of(offline, 12))
    np.testing.assert_allclose([one.confidence for one in answered], offline.confidence[:12], atol=1e-4)
    for one, answer in zip(answered, offline.answers, strict=False):
        assert one.answer == (None if one.abstained else answer)
    raw = [{**row, "image": base64.b64decode(row["image"])} for row in rows_of(offline, 3)]
    assert [one.confidence for one in model.predict(raw)] == pytest.approx(
        [one.confidence for one in answered[:3]], abs=1e-4
    )


def test_the_signature_is_that_of_the_messages(recorded):
    inputs = json.loads(recorded.signature.to_dict()["inputs"])
    assert {name: field["required"] for name, field in inputs[0]["properties"].items()} == {
        "image": True,
        "question": True,
        "risk": False,
    }


@pytest.mark.parametrize(
    "row", [{"question": "a"}, {"image": "AAAA", "question": "a", "extra": 1}, {"image": "AAAA", "question": 3}]
)
def test_wrong_inputs_are_refused(recorded, row):
    with pytest.raises(MlflowException, match="Data doesn't match type hint"):
        mlflow.pyfunc.load_model(recorded.model_uri).predict([row])


def picture(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image": picture(6000, 5000)}, "question 1: the image has 6000 x 5000 pixels and at most 12500000 are taken"),
        ({"image": b"GIF89a"}, "question 1: the image is no PNG, JPEG or WebP file"),
        ({"question": "red? " * 500}, r"question 1: the prompt has \d+ tokens and the model takes 1016"),
        ({"risk": 0.25}, "question 1: no threshold is certified for risk=0.25"),
    ],
)
def test_what_cannot_be_answered_is_refused_for_its_reason(recorded, offline, changed, reason):
    good = rows_of(offline, 1)[0]
    with pytest.raises(MlflowException, match=reason) as caught:
        mlflow.pyfunc.load_model(recorded.model_uri).predict([good, good | changed])
    assert caught.value.get_http_status_code() == 400


def test_too_many_pixels_together_are_refused(recorded):
    rows = [{"image": picture(3500, 3500 + number), "question": "red?"} for number in range(3)]
    with pytest.raises(MlflowException, match="36760500 pixels together and at most 32000000 are taken"):
        mlflow.pyfunc.load_model(recorded.model_uri).predict(rows)


def test_another_bundle_than_the_one_whose_digest_is_kept_is_not_loaded(recorded, monkeypatch):
    monkeypatch.setenv("RELIABIT_BUNDLE_DIGEST", "0" * 64)
    with pytest.raises(ReliabitError, match="manifest"):
        mlflow.pyfunc.load_model(recorded.model_uri)


def test_a_damaged_bundle_is_not_loaded(recorded, tmp_path):
    folder = Path(mlflow.artifacts.download_artifacts(recorded.model_uri, dst_path=str(tmp_path)))
    weights = next(folder.rglob("selector.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ReliabitError, match="selector.safetensors differs from what manifest.json lists"):
        mlflow.pyfunc.load_model(str(folder))


def post(url, values):
    request = urllib.request.Request(url, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_mlflow_serves_it(recorded, offline, tmp_path):
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", recorded.model_uri, "--env-manager", "local"]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (tmp_path / "serve.log").read_text()
                assert time.monotonic() < end, (tmp_path / "serve.log").read_text()
                time.sleep(0.3)
        answered = post(f"{url}/invocations", {"inputs": rows_of(offline, 8)})["predictions"]
        np.testing.assert_allclose([one["confidence"] for one in answered], offline.confidence[:8], atol=1e-4)
        for one, answer in zip(answered, offline.answers, strict=False):
            assert one["answer"] == (None if one["abstained"] else answer)
        bomb = {"image": base64.b64encode(picture(6000, 5000)).decode(), "question": "is it red?"}
        for wrong, reason in [({"question": "is it red?"}, "Field required"), (bomb, "6000 x 5000 pixels")]:
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(f"{url}/invocations", {"inputs": [wrong]})
            with caught.value as refused:
                assert (refused.code, reason in refused.read().decode()) == (400, True)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
