"""The torchmetrics classes: equal to the functions, in one process and in two."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import reliabit.metrics as reliability
from reliabit.metrics import functional as fn

WORKER = Path(__file__).parent / "distributed_worker.py"


@pytest.fixture(scope="module")
def worker():
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def single(worker):
    return worker.evaluate(0, 301)


def test_classes_equal_functions(worker, single):
    confidence, accuracy = worker.predictions()
    expected = {
        "aurc": fn.aurc(confidence, accuracy),
        "e_aurc": fn.e_aurc(confidence, accuracy),
        "augrc": fn.augrc(confidence, accuracy),
        "prr": fn.prediction_rejection_ratio(confidence, accuracy),
        "auroc": fn.auroc(confidence, accuracy, criterion="any"),
        "coverage": fn.coverage_at_risk(confidence, accuracy, 0.4)[0],
        "risk": fn.risk_at_coverage(confidence, accuracy),
        "mass": fn.calibration_error(confidence, accuracy, 10, binning="mass"),
        "width": fn.calibration_error(confidence, accuracy, 10),
        "brier": fn.brier_score(confidence, accuracy),
        "nll": fn.negative_log_likelihood(confidence, accuracy),
        "phi": fn.effective_reliability(confidence, accuracy, 10, 0.6),
        "mean": accuracy.mean(),
    }
    expected |= reliability.evaluate(reliability.Predictions(confidence, accuracy, {10: 0.6}))
    assert {name: single[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.medium
def test_two_processes_equal_one(single, tmp_path):
    source = fn.__file__.split("/reliabit/")[0]
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER)]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], env=environment, stdout=subprocess.PIPE)
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0
        assert json.loads(output) == pytest.approx(single, abs=1e-12)


def test_reset_and_forward():
    metric = reliability.CoverageAtRisk(0.1)
    assert metric([0.9, 0.8], [1, 0]).item() == 0.5
    metric.reset()
    metric.update([0.9, 0.8], [1, 1])
    assert metric.compute().item() == 1.0
    assert metric.compute().dtype == torch.float64
