"""The numeric test vectors of the reliability specification."""

import math

import numpy as np
import pytest

from reliabit.metrics import functional as fn

INF = math.inf

# per cent: paper AUC, published code, mean of R_k, torch-uncertainty, fd-shifts AURC, fd-shifts AUGRC, its oracle
AREAS = {
    "A": (15.6667, 15.6667, 19.6667, 19.5833, 15.6667, 12.0, 8.0),
    "B": (16.7778, 9.0, 20.7778, None, 14.0, 12.0, 8.0),
    "C": (19.0, 19.0, 22.0556, 22.8, 19.0, 14.1667, 8.0556),
    "F": (37.5, 14.5833, 50.0, None, 50.0, 25.0, 12.5),
    "G": (36.4583, 36.4583, 52.0833, 48.6111, 61.4583, 21.875, 3.125),
    "H": (0, 0, 0, 0, 0, 0, 0),
    "I": (75.0, 75.0, 100.0, 100.0, 100.0, 50.0, 50.0),
}


@pytest.mark.parametrize("case", AREAS)
def test_areas(cases, case):
    confidence, accuracy = cases[case]
    paper, published, mean, rescaled, boundary, augrc, oracle = AREAS[case]
    assert 100 * fn.aurc(confidence, accuracy) == pytest.approx(paper, abs=5e-5)
    assert 100 * fn.aurc(confidence, accuracy, paper_compat=True) == pytest.approx(published, abs=5e-5)
    assert 100 * fn.aurc_mean(confidence, accuracy) == pytest.approx(mean, abs=5e-5)
    assert 100 * fn.aurc_boundary(confidence, accuracy) == pytest.approx(boundary, abs=5e-5)
    assert 100 * fn.augrc(confidence, accuracy) == pytest.approx(augrc, abs=5e-5)
    assert 100 * fn.augrc(accuracy, accuracy) == pytest.approx(oracle, abs=5e-5)
    if rescaled is not None:
        width = 1 - 1 / len(confidence)
        assert 100 * fn.aurc(confidence, accuracy) / width == pytest.approx(rescaled, abs=5e-5)


def test_curve_of_case_c_by_hand(cases):
    curve = fn.risk_coverage_curve(*cases["C"])
    np.testing.assert_allclose(curve.risk, [0, 0.05, 0.166667, 0.3, 0.44, 0.366667], atol=1e-6)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 7) / 6)
    assert np.trapezoid(curve.risk, curve.coverage) == pytest.approx(0.19)


@pytest.mark.parametrize(
    ("case", "risk", "coverage", "threshold"),
    [
        *[("A", risk, 0.4, 0.8) for risk in (0, 0.2)],
        *[("A", risk, 0.8, 0.6) for risk in (0.25, 0.34)],
        ("A", 0.4, 1.0, 0.5),
        *[("B", risk, 0.2, 0.9) for risk in (0, 0.1)],
        *[("B", risk, 0.8, 0.7) for risk in (0.25, 0.34)],
        ("B", 0.4, 1.0, 0.5),
        *[("C", risk, 2 / 6, 0.9) for risk in (0.05, 0.1)],
        ("C", 0.2, 0.5, 0.8),
        ("C", 0.4, 1.0, 0.2),
        *[("F", risk, 0.0, INF) for risk in (0, 0.1)],
        ("F", 0.5, 1.0, 0.5),
        ("G", 0.3, 1.0, 0.6),
        ("H", 0, 1.0, 0.6),
        ("I", 0.1, 0.0, INF),
    ],
)
def test_coverage_at_risk(cases, case, risk, coverage, threshold):
    confidence, accuracy = cases[case]
    assert fn.coverage_at_risk(confidence, accuracy, risk) == (coverage, threshold)
    published = fn.coverage_at_risk(confidence, accuracy, risk, paper_compat=True)
    assert published == (coverage, 0.0 if threshold == INF else threshold)


@pytest.mark.parametrize(("case", "risk", "coverage"), [("A", 0.25, 0.4), ("C", 0.05, 1 / 6), ("A", 0.26, 0.8)])
def test_coverage_strictly_below_a_risk(cases, case, risk, coverage):
    assert fn.coverage_at_risk(*cases[case], risk, strict=True)[0] == pytest.approx(coverage)
    if case == "A":  # its running means are exact in floating point, those of C are not
        assert fn.coverage_at_risk(*cases[case], risk, strict=True, paper_compat=True)[0] == coverage


def test_coverage_at_risk_does_not_fall_into_the_float_trap():
    confidence, accuracy = np.arange(24, 0, -1) / 24, [fn.accuracy_from_matches(3, 10)] * 24
    assert fn.coverage_at_risk(confidence, accuracy, 0.1)[0] == 1.0
    assert fn.coverage_at_risk(confidence, np.float32(accuracy), 0.1)[0] == 1.0
    assert fn.coverage_at_risk(confidence, accuracy, 0.1, paper_compat=True)[0] == pytest.approx(17 / 24)


def test_oracle_coverage_ignores_ties_of_confidence(cases):
    assert fn.coverage_at_risk(cases["F"][1], cases["F"][1], 0)[0] == 0.5


@pytest.mark.parametrize(
    ("cost", "threshold", "phi", "coverage", "risk"),
    [(1, 0.2, 0.466667, 1.0, 0.366667), (10, 0.6, 0.466667, 0.666667, 0.3), (100, 0.6, 0.466667, 0.666667, 0.3)],
)
def test_effective_reliability_of_case_c(cases, cost, threshold, phi, coverage, risk):
    confidence, accuracy = cases["C"]
    assert fn.effective_reliability_threshold(confidence, accuracy, cost) == threshold
    assert fn.effective_reliability_threshold(confidence, accuracy, cost, paper_compat=True) == threshold
    assert fn.effective_reliability(confidence, accuracy, cost, threshold) == pytest.approx(phi, abs=1e-6)
    point = fn.operating_point(confidence, accuracy, threshold)
    assert (point.coverage, point.risk) == pytest.approx((coverage, risk), abs=1e-6)


def test_effective_reliability_without_abstention_and_of_the_oracle(cases):
    confidence, accuracy = cases["C"]
    assert fn.effective_reliability(confidence, accuracy, 10, -INF) == pytest.approx(-1.033333, abs=1e-6)
    assert fn.effective_reliability(confidence, accuracy, 100, -INF) == pytest.approx(-16.033333, abs=1e-6)
    best = fn.effective_reliability_threshold(accuracy, accuracy, 10)
    assert fn.effective_reliability(accuracy, accuracy, 10, best) == pytest.approx(0.633333, abs=1e-6)
    point = fn.operating_point(accuracy, accuracy, best)
    assert (point.coverage, point.risk) == pytest.approx((0.833333, 0.24), abs=1e-6)


@pytest.mark.parametrize(("cost", "threshold", "phi"), [(1, 0.55, 0.0), (10, 0.75, -2.25), (100, 0.75, -24.75)])
def test_effective_reliability_with_a_threshold_from_another_split(cost, threshold, phi):
    assert fn.effective_reliability_threshold([0.85, 0.75, 0.65, 0.55], [1, 1, 0, 1], cost) == threshold
    test = ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert fn.effective_reliability(*test, cost, threshold) == phi
    if cost == 10:
        assert fn.operating_point(*test, threshold)[:2] == (0.5, 0.5)


def test_abstaining_from_everything_is_allowed():
    wrong = ([0.9, 0.8], [0, 0])
    assert fn.effective_reliability_threshold(*wrong, 100) == INF
    assert fn.effective_reliability(*wrong, 100, INF) == 0
    for cost, phi in [(1, -0.5), (100, -50)]:
        published = fn.effective_reliability_threshold(*wrong, cost, paper_compat=True)
        assert fn.effective_reliability(*wrong, cost, published) == phi


def test_effective_reliability_of_eighty_of_a_hundred():
    confidence = np.linspace(1, 0.01, 100)
    accuracy = np.r_[np.ones(76), np.zeros(4), np.ones(20)]
    assert fn.effective_reliability(confidence, accuracy, 10, confidence[79]) == pytest.approx(0.36)


@pytest.mark.parametrize("n_bins", [1, 10, 15, 20])
def test_a_confidence_of_zero_is_in_the_first_bin(n_bins):
    extreme = ([0.0, 1.0], [1, 1])
    assert fn.calibration_error(*extreme, n_bins) == 0.5
    assert fn.calibration_error(*extreme, n_bins, closed="left") == 0.5
    assert fn.calibration_error(*extreme, n_bins, paper_compat=True) == 0.0


@pytest.mark.parametrize(
    ("confidence", "accuracy", "right", "left"),
    [
        ([0.1, 0.15], [1, 0], 0.525, 0.375),
        ([0.95, 0.9, 0.8, 0.6, 0.4, 0.2], [1, 0.9, 0.6, 0.3, 0, 1], 0.2916667, 0.2916667),
        ([0.95, 0.85, 0.75, 0.65], [1, 1, 0, 1], 0.325, 0.325),
        ([0.9, 0.9, 0.3, 0.3], [0.9, 0.6, 0.3, 0], 0.15, 0.15),
        ([0.5] * 4, [1, 1, 0, 0], 0.0, 0.0),
    ],
)
def test_calibration_error_with_ten_bins(confidence, accuracy, right, left):
    assert fn.calibration_error(confidence, accuracy, 10) == pytest.approx(right, abs=1e-7)
    assert fn.calibration_error(confidence, accuracy, 10, closed="left") == pytest.approx(left, abs=1e-7)


def test_calibration_error_is_that_of_torchmetrics_on_hard_labels():
    from torchmetrics.functional.classification import binary_calibration_error

    generator = np.random.default_rng(0)
    confidence = generator.integers(0, 21, 500) / 20
    correct = generator.integers(0, 2, 500)
    import torch

    expected = binary_calibration_error(torch.tensor(confidence), torch.tensor(correct), n_bins=10)
    assert fn.calibration_error(confidence, correct, 10, closed="left") == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(("accuracy", "floor"), [(0.3, 0.6109), (0.6, 0.6730), (0.9, 0.3251), (0, 0), (1, 0)])
def test_negative_log_likelihood_is_least_at_the_target(accuracy, floor):
    assert fn.negative_log_likelihood([accuracy], [accuracy]) == pytest.approx(floor, abs=5e-5)
    assert fn.negative_log_likelihood([accuracy], [accuracy], eps=0) == pytest.approx(floor, abs=5e-5)
    assert fn.negative_log_likelihood([0.5], [accuracy]) >= floor


def test_negative_log_likelihood_is_infinite_only_without_clipping():
    assert fn.negative_log_likelihood([1.0], [0.0], eps=0) == INF
    assert fn.negative_log_likelihood([1.0], [0.0]) == pytest.approx(-math.log(1e-12), rel=1e-4)
