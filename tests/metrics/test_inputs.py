"""Bad input is named with its first offending index; good input may be any kind of vector."""

import numpy as np
import pytest
import torch

import reliabit.metrics as reliability
from reliabit.errors import ReliabitError
from reliabit.metrics import functional as fn

NAN = float("nan")
PAIRED = [
    fn.aurc,
    fn.aurc_mean,
    fn.aurc_boundary,
    fn.augrc,
    fn.e_aurc,
    fn.prediction_rejection_ratio,
    fn.auroc,
    fn.aupr_error,
    fn.risk_at_coverage,
    fn.risk_coverage_curve,
    fn.calibration_error,
    fn.reliability_diagram,
    fn.brier_score,
    fn.negative_log_likelihood,
    lambda c, a: fn.coverage_at_risk(c, a, 0.1),
    lambda c, a: fn.coverage_at_risk(c, a, 0.1, paper_compat=True),
    lambda c, a: fn.operating_point(c, a, 0.5),
    lambda c, a: fn.effective_reliability(c, a, 1, 0.5),
    lambda c, a: fn.effective_reliability_threshold(c, a, 1),
    lambda c, a: fn.effective_reliability_threshold(c, a, 1, paper_compat=True),
]
CALIBRATION = [fn.calibration_error, fn.reliability_diagram, fn.brier_score, fn.negative_log_likelihood]


@pytest.mark.parametrize("metric", PAIRED)
@pytest.mark.parametrize(
    ("confidence", "accuracy", "message"),
    [
        ([0.5, NAN, NAN], [1, 1, 1], r"confidence\[1\] is nan"),
        ([0.5, float("inf")], [1, 1], r"confidence\[1\] is inf"),
        ([0.5, 0.5, 0.5], [1, 0, NAN], r"accuracy\[2\] is nan"),
        ([0.5, 0.5, 0.5], [1, 1.1, -1], r"accuracy\[1\] is 1.1; every accuracy must lie in \[0, 1\]"),
        ([0.5, 0.5], [1, -0.1], r"accuracy\[1\] is -0.1"),
        ([0.5, 0.5], [1], "confidence has 2 values and accuracy has 1; they part at index 1"),
        ([], [], "confidence is empty"),
        ([0.5], [], "accuracy is empty"),
        ([[0.5]], [1], r"confidence must have one dimension and has the shape \(1, 1\)"),
        ([0.5], 1.0, "accuracy must have one dimension"),
        (["high"], [1], "confidence must be a list of real numbers"),
        ([0.5], [1j], "accuracy must be a list of real numbers"),
        ([[1], [1, 2]], [1], "confidence must be a list of real numbers"),
    ],
)
def test_bad_vectors(metric, confidence, accuracy, message):
    with pytest.raises(ReliabitError, match=message):
        metric(confidence, accuracy)


@pytest.mark.parametrize("metric", CALIBRATION)
def test_calibration_needs_probabilities(metric):
    with pytest.raises(ReliabitError, match=r"confidence\[1\] is -0.2; a calibration metric needs probabilities"):
        metric([0.5, -0.2, 3], [1, 1, 1])


def test_ranking_takes_any_score():
    assert fn.aurc([-3.0, -np.inf, 7.0], [1, 0, 1]) == fn.aurc([0.5, 0.1, 0.9], [1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fn.coverage_at_risk([0.5], [1], 1.5), "risk is 1.5; it must lie in"),
        (lambda: fn.coverage_at_risk([0.5], [1], NAN), "risk is nan"),
        (lambda: fn.risk_at_coverage([0.5], [1], 0), "coverage is 0; it must lie in"),
        (lambda: fn.effective_reliability([0.5], [1], -1, 0.5), "cost is -1; it must be a finite number from 0"),
        (lambda: fn.effective_reliability([0.5], [1], 1, NAN), "threshold is nan; it must be a number or inf"),
        (lambda: fn.operating_point([0.5], [1], NAN), "threshold is nan"),
        (lambda: fn.calibration_error([0.5], [1], 0), "n_bins is 0; it must be at least 1"),
        (
            lambda: fn.calibration_error([0.5], [1], binning="equal"),
            "binning is 'equal'; it must be one of width, mass",
        ),
        (lambda: fn.calibration_error([0.5], [1], closed="both"), "closed is 'both'; it must be one of right, left"),
        (lambda: fn.negative_log_likelihood([0.5], [1], eps=0.5), "eps is 0.5"),
        (lambda: fn.auroc([0.5], [1], criterion="all"), "criterion is 'all'; it must be one of half, any"),
        (lambda: reliability.CalibrationError(0), "n_bins is 0"),
        (lambda: reliability.VQAAccuracy().update(["yes"], []), "predictions has 1 values and answers has 0"),
        (
            lambda: reliability.evaluate(reliability.Predictions([0.5], [1], {10: NAN})),
            r"thresholds\[10\] is nan",
        ),
    ],
)
def test_bad_scalars(call, message):
    with pytest.raises(ReliabitError, match=message):
        call()


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.array,
        np.float32,
        np.float16,
        torch.tensor,
        lambda values: torch.tensor(values, dtype=torch.bfloat16),
        lambda values: torch.tensor(values, dtype=torch.float64, requires_grad=True),
    ],
)
def test_any_vector_will_do_and_narrow_types_keep_their_tenths(convert):
    confidence, accuracy = [4.0, 3.0, 2.0, 1.0], [0.9, 0.6, 0.9, 0.6]
    assert fn.coverage_at_risk(confidence, convert(accuracy), 0.25) == (1.0, 1.0)
    assert fn.coverage_at_risk(convert(confidence), accuracy, 0.1) == (0.25, 4.0)
    assert fn.aurc(convert(confidence), convert(accuracy)) == fn.aurc(confidence, accuracy)


def test_other_numbers_of_annotators_are_exact_too():
    accuracy = [fn.accuracy_from_matches(2, 9)] * 27
    confidence = np.arange(27, 0, -1)
    from fractions import Fraction

    assert fn.coverage_at_risk(confidence, accuracy, Fraction(11, 27))[0] == 1.0
    assert fn.coverage_at_risk(confidence, np.float32(accuracy), Fraction(11, 27))[0] == 1.0


def test_the_functions_need_neither_torch_nor_scipy():
    import subprocess
    import sys

    code = "import sys, reliabit.metrics.functional; print(*{'torch', 'scipy', 'torchmetrics'} & {*sys.modules})"
    source = fn.__file__.split("/reliabit/")[0]
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, text=True, check=False
    )
    assert (result.stdout.strip(), result.returncode) == ("", 0)


def test_public_names_exist():
    for name in reliability.__all__:
        assert getattr(reliability, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'AURK'"):
        _ = reliability.AURK
