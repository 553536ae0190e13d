"""The real bundle on its whole way: registered, promoted, fetched by a service and by MLflow, and asked."""

import base64
import json
import os
import subprocess
import sys

import pytest

from registry.bundles import accepting
from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.registry.champion_source import ChampionSource
from reliabit.registry.promotion import promote
from reliabit.registry.registering import register_bundle
from reliabit.serving.bundle.served_model import ServedModel
from reliabit.serving.http.messages import Request
from serving.bundles import bundled, evaluate
from tracking.stores import tracker_at

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    spec = DataConfig(name="easy_vqa", splits={"dev": 20, "val": 15, "cal": 30, "test": 12})
    tables = prepare(spec, root=tmp_path_factory.mktemp("tables"))
    splits = {split: load_split(tables, split) for split in spec.splits}
    evaluated = evaluate("qwen2_vl", splits, tmp_path_factory.mktemp("evaluated"))
    return bundled(evaluated, tmp_path_factory.mktemp("bundles") / "selector", confidence="selector")


@pytest.fixture(scope="module")
def tracker(offline, tmp_path_factory):
    tracker = tracker_at(tmp_path_factory.mktemp("store"))
    with tracker.run("tiny·hqq·4b·s0", tags={"kind": "cell"}) as run:
        run.log_metrics({"accuracy/mean": 0.5})
    version = register_bundle(tracker, offline.bundle, run_id=run.run_id)
    assert promote(tracker, "reliabit", version.number, decide=accepting).outcome == "accepted"
    return tracker


@pytest.fixture(scope="module")
def requests(offline) -> list[dict[str, str]]:
    pairs = zip(offline.table["image"], offline.table["question"], strict=True)
    return [{"image": base64.b64encode(image).decode(), "question": question} for image, question in pairs]


def test_a_service_says_what_offline_evaluation_said(tracker, offline, requests, tmp_path):
    offer = ChampionSource(tracker=tracker, cache=tmp_path).current()
    assert offer.version == "1"
    with offer.snapshot() as folder:
        model = ServedModel(folder, accelerator="cpu")
        answered = model.answer([Request(**request).asked() for request in requests])
    assert [one.confidence for one in answered] == pytest.approx(offline.confidence, abs=1e-4)
    kept = [(one.answer, answer) for one, answer in zip(answered, offline.answers, strict=True) if not one.abstained]
    assert all(said == answer for said, answer in kept)


def test_mlflow_says_the_same_with_pickle_forbidden(tracker, offline, requests, tmp_path):
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    code = (
        "import json, sys, mlflow; model = mlflow.pyfunc.load_model('models:/reliabit@champion'); "
        "said = model.predict(json.load(open(sys.argv[1]))); "
        "print(json.dumps([getattr(one, 'confidence', None) or one['confidence'] for one in said]))"
    )
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracker.client.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    command = [sys.executable, "-c", code, str(tmp_path / "requests.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(offline.confidence, abs=1e-4)
