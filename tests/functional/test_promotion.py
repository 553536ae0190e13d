"""From a sweep to a served answer as a new user goes: promoted, served, refused where worse, rolled back, damaged."""

import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest
import requests
from datasets import Dataset

from functional.checkout import RELIABIT, Checkout
from reliabit.tracking.tracker import Tracker

pytestmark = pytest.mark.slow

SWEEP = [
    "-m",
    "quant=hqq",
    "quant.bits=2,4",
    "data.ask={dev: 300, val: 100, cal: 300, test: 150}",
    "confidence.selector.epochs=3",
    "trainer.threads=1",
    "trainer.progress_bar=false",
]
# Few questions leave wide intervals; what is tested here is the way, not the margins.
LENIENT = [
    "registry.accuracy_loss=0.2",
    "registry.slice_loss=0.6",
    "registry.minimum_coverage=0.2",
    "trainer.threads=1",
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A clean checkout with a finished sweep."""
    checkout = Checkout(tmp_path_factory.mktemp("promotion") / "project")
    checkout.change("conf/evaluation/default.yaml", resamples=200)
    checkout.commit("A small project")
    done = checkout.job(*SWEEP)
    assert done.returncode == 0, done.stderr
    return checkout


def tracker_of(checkout):
    root = checkout.root / "mlruns"
    return Tracker(uri=f"sqlite:///{root}/mlflow.db", artifacts=str(root / "artifacts"), experiment="reliabit")


def cell(checkout, name):
    [run] = [
        run for run in tracker_of(checkout).runs_with({"kind": "cell"}) if run.info.run_name.split("·")[-2] == name
    ]
    return run


@pytest.fixture(scope="module")
def promoted(swept):
    """The same with 2 bits as the champion."""
    run = cell(swept, "2b").info.run_id
    explained = swept.reliabit("promote", "--dry-run", "--run", run, *LENIENT)
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert "is accepted by the policy smallest" in explained.stdout
    assert "accepted" not in swept.reliabit("history").stdout
    done = swept.reliabit("promote", "--run", run, *LENIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return swept


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def service(checkout, *arguments):
    port = free_port()
    process = subprocess.Popen(
        [*RELIABIT, "serve", "--port", str(port), *arguments, "trainer.threads=1"],
        cwd=checkout.root,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, process.communicate()[0]
            try:
                if requests.get(f"{address}/healthz", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def asked_of(checkout, run, *, questions):
    """Questions of the reported split, with what the run answered offline."""
    [table] = (checkout.root / "data").glob("easy_vqa-*/test.parquet")
    images = {row["question_id"]: row for row in Dataset.from_parquet(str(table))}
    predictions = tracker_of(checkout).fetch(
        run.info.run_id, "predictions.parquet", checkout.root / "fetched" / run.info.run_id
    )
    rows = [row for row in pq.read_table(predictions).to_pylist() if row["split"] == "test"][:questions]
    return [(images[row["question_id"]], row) for row in rows]


def ask(address, row):
    answer = requests.post(
        f"{address}/answer", files={"image": row["image"]}, data={"question": row["question"]}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_answers(address, asked, *, version):
    for question, offline in asked:
        found = ask(address, question)
        assert found["model_version"] == version
        assert found["confidence"] == pytest.approx(offline["conf_selector"], abs=1e-3)
        sure = found["confidence"] >= found["threshold"]
        assert found["abstained"] == (not sure)
        assert found["answer"] == (offline["answer"] if sure else None)


def test_the_served_champion_answers_as_offline_evaluation(promoted):
    with service(promoted) as address:
        check_answers(address, asked_of(promoted, cell(promoted, "2b"), questions=60), version="1")
        doctor = promoted.reliabit("doctor", "--service", address)
        assert "no drift found in 60 answers" in doctor.stdout, doctor.stderr


def test_a_worse_candidate_is_refused_with_reasons(promoted):
    run = cell(promoted, "4b").info.run_id
    done = promoted.reliabit("promote", "--run", run, *LENIENT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"improvement \| NO \| resident MiB \S+ after \S+", done.stdout)
    history = promoted.reliabit("history").stdout.splitlines()
    assert ["refused" in line for line in history[1:3]] == [False, True]


def test_a_rollback_restores_the_answers_and_a_running_service_follows(promoted):
    """In a registered model of its own: 4 bits, then the smaller 2 bits, and back."""
    any_loss = [f"registry.incumbent.{name}=0.9" for name in ("accuracy_loss", "augrc_loss", "coverage_loss")]
    steps = [*LENIENT, *any_loss, "registry.model=steps"]
    wide, narrow = cell(promoted, "4b"), cell(promoted, "2b")
    assert promoted.reliabit("promote", "--run", wide.info.run_id, *steps).returncode == 0
    asked = asked_of(promoted, wide, questions=10)
    with service(promoted, "registry.model=steps") as address:
        before = [ask(address, question) for question, _ in asked]
        done = promoted.reliabit("promote", "--run", narrow.info.run_id, *steps)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for_version(address, "2")
        check_answers(address, asked_of(promoted, narrow, questions=10), version="2")
        done = promoted.reliabit("rollback", "--reason", "a test", "registry.model=steps")
        assert done.returncode == 0, done.stderr
        wait_for_version(address, "1")
        assert [ask(address, question) for question, _ in asked] == before


def wait_for_version(address, version):
    for _ in range(60):
        if requests.get(f"{address}/healthz", timeout=5).json()["model_version"] == version:
            return
        time.sleep(1)
    raise AssertionError(f"version {version} is not served after a minute")


def test_a_flipped_byte_is_refused(promoted, tmp_path):
    assert promoted.reliabit("pull", "models:/reliabit/1", str(tmp_path / "bundle")).returncode == 0
    path = tmp_path / "bundle" / "checkpoint" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = promoted.reliabit("serve", "--bundle", str(tmp_path / "bundle"))
    assert done.returncode == 2
    assert "model.safetensors differs from what manifest.json lists" in done.stderr


def test_a_bundle_is_served_without_store_and_data(promoted, tmp_path):
    assert promoted.reliabit("pull", "models:/reliabit/1", str(tmp_path / "bundle")).returncode == 0
    bare = Checkout(tmp_path / "elsewhere")
    [(question, offline), *_] = asked_of(promoted, cell(promoted, "2b"), questions=1)
    with service(bare, "--bundle", str(tmp_path / "bundle")) as address:
        assert ask(address, question)["confidence"] == pytest.approx(offline["conf_selector"], abs=1e-3)
    assert not (bare.root / "data").exists()
    assert not (bare.root / "mlruns").exists()


def test_what_ran_from_uncommitted_code_is_never_promoted(promoted):
    with (promoted.root / "src" / "reliabit" / "errors.py").open("a") as file:
        file.write("\n# changed\n")
    done = promoted.job("quant=hqq", "quant.bits=3", *SWEEP[3:])
    assert done.returncode == 0, done.stderr
    dirty = cell(promoted, "3b")
    assert dirty.data.tags["git.dirty"] == "true"
    assert promoted.run("git", "checkout", "--quiet", "--", ".").returncode == 0
    done = promoted.job("-m", "quant=hqq", "quant.bits=3", *SWEEP[3:])
    assert done.returncode == 0, done.stderr
    done = promoted.reliabit("promote", "--run", dirty.info.run_id, *LENIENT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "git.dirty is true" in done.stdout


def test_what_changed_since_it_was_measured_is_not_promoted(promoted):
    with (promoted.root / "src" / "reliabit" / "quant" / "methods" / "rtn.py").open("a") as file:
        # A comment would cost nothing.
        file.write("\nCHANGED = True\n")
    promoted.commit("A change")
    parent = tracker_of(promoted).runs_with({"kind": "sweep"})[0].info.run_id
    run = cell(promoted, "4b").info.run_id
    lenient = [*LENIENT, "registry.objective=augrc", "registry.incumbent.coverage_loss=0.9", "registry.model=other"]
    done = promoted.reliabit("promote", "--sweep", parent, "--run", run, *lenient)
    assert done.returncode == 2, done.stdout
    assert "source of quant/methods/rtn.py changed" in done.stderr
