"""Agreement with torch-uncertainty where the two define the same thing: binary correctness without ties."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from reliabit.metrics import functional as fn


@pytest.fixture(scope="module")
def torch_uncertainty():
    """Its risk-coverage module alone: the package as a whole also needs torchvision."""
    package = importlib.util.find_spec("torch_uncertainty")
    if package is None or package.origin is None:
        pytest.skip("torch-uncertainty is not installed")
    path = Path(package.origin).parent / "metrics" / "classification" / "risk_coverage.py"
    spec = importlib.util.spec_from_file_location("torch_uncertainty_risk_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def binary(seed, n):
    """Two-class probabilities whose larger one is the confidence, all distinct."""
    generator = np.random.default_rng(seed)
    confidence = 0.5 + (generator.permutation(n) + 1) / (2 * n + 2)
    correct = (generator.random(n) < confidence).astype(int)
    probabilities = torch.tensor(np.stack([confidence, 1 - confidence], axis=1))
    return confidence, correct, probabilities, torch.tensor(1 - correct)


@pytest.mark.parametrize("n", [2, 5, 60, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_area_under_the_curve(torch_uncertainty, seed, n):
    confidence, correct, probabilities, target = binary(seed, n)
    metric = torch_uncertainty.AURC()
    metric.update(probabilities, target)
    theirs = metric.compute().item()
    assert fn.aurc(confidence, correct) / (1 - 1 / n) == pytest.approx(theirs, abs=1e-6)
    assert fn.aurc(confidence, correct) == pytest.approx(theirs * (1 - 1 / n), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_coverage_at_risk_and_risk_at_coverage(torch_uncertainty, seed):
    confidence, correct, probabilities, target = binary(seed, 500)
    for risk in (0.05, 0.1, 0.2):
        metric = torch_uncertainty.CovAtxRisk(risk_threshold=risk)
        metric.update(probabilities, target)
        ours = fn.coverage_at_risk(confidence, correct, risk)[0]
        assert ours == pytest.approx(np.nan_to_num(metric.compute().item()), abs=1e-6)
    metric = torch_uncertainty.RiskAtxCov(cov_threshold=0.8)
    metric.update(probabilities, target)
    assert fn.risk_at_coverage(confidence, correct, 0.8) == pytest.approx(metric.compute().item(), abs=1e-6)
