"""Figures of trust show all of what matters: no point is cut off, and risk only as far as anybody would go."""

import numpy as np
import pytest

from reliabit.evaluation.prediction_columns import ScoredAnswers
from reliabit.evaluation.trust_figures import ZOOM, overlay_figure, reliability_figure, risk_coverage_figure
from reliabit.metrics import certify_threshold
from reliabit.metrics.functional import operating_point

RISKS = (0.001, 0.05, 0.1)


def answers(*, seed, number=800, power=0.1):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(size=number) ** power
    return ScoredAnswers(
        confidence, (rng.uniform(size=number) < confidence).astype(float), [str(i) for i in range(number)]
    )


@pytest.fixture(scope="module")
def sure():
    return answers(seed=0)


@pytest.fixture(scope="module")
def certificates():
    val, cal = answers(seed=1), answers(seed=2)
    return [
        certify_threshold(val.confidence, val.accuracy, cal.confidence, cal.accuracy, risk, 0.1, seed=0)
        for risk in RISKS
    ]


def test_no_bin_of_a_reliability_diagram_is_cut_off(sure):
    exact = ScoredAnswers(np.ones(400), np.ones(400), [str(i) for i in range(400)])
    for found in (sure, exact):
        axes, counts = reliability_figure({"maxprob": found}, title="t").axes
        (points,) = [line for line in axes.get_lines() if line.get_label() == "_nolegend_" or line.get_marker() == "o"]
        at, right = points.get_data()
        assert not points.get_clip_on()
        for values, (low, high) in ((at, axes.get_xlim()), (right, axes.get_ylim())):
            assert low < min(values)
            assert max(values) < high
            assert high > 1
        assert counts.get_xlim() == axes.get_xlim()
        assert counts.get_ylim()[1] > max(patch.get_xy()[:, 1].max() for patch in counts.patches)


def test_bins_hold_equally_many_questions_however_sure_the_model_is(sure):
    axes = reliability_figure({"maxprob": sure}, title="t").axes[0]
    (points,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
    at, right = points.get_data()
    parts = np.array_split(np.argsort(sure.confidence), len(at))
    assert len(at) == 12
    assert list(at) == pytest.approx([sure.confidence[part].mean() for part in parts], abs=0.003)
    assert list(right) == pytest.approx([sure.accuracy[part].mean() for part in parts], abs=0.03)


def test_a_confidence_that_is_no_probability_is_left_out(sure):
    scores = ScoredAnswers(sure.confidence * 7, sure.accuracy, sure.images)
    labels = reliability_figure({"maxprob": sure, "entropy": scores}, title="t").axes[0].get_legend_handles_labels()[1]
    assert labels == ["as sure as right", "maxprob"]
    reliability_figure({"entropy": scores}, title="t")


def test_risk_is_shown_as_far_as_it_matters_with_the_certified_thresholds(sure, certificates):
    unsure = answers(seed=3, power=1.0)
    figure = risk_coverage_figure(
        {"maxprob": unsure, "selector": sure}, confidence="selector", certificates=certificates, title="t"
    )
    (axes,) = figure.axes
    top = axes.get_ylim()[1]
    assert top == pytest.approx(min(100 * ZOOM * RISKS[-1], 125 * (1 - unsure.accuracy.mean())))
    labels = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    marks = [handle for label, handle in labels.items() if label.startswith("at most")]
    for mark, certificate in zip(marks, certificates, strict=True):
        point = operating_point(sure.confidence, sure.accuracy, certificate.threshold)
        if point.coverage:
            assert tuple(*mark.get_xydata()) == pytest.approx((100 * point.coverage, 100 * point.risk))
            assert f"answers {100 * point.coverage:.0f} %" in mark.get_label()
        else:
            assert mark.get_label() == f"at most {100 * certificate.risk:g} % wrong: no threshold certified"
    assert {bool(np.isnan(mark.get_ydata()[0])) for mark in marks} == {True, False}


def test_curves_of_many_configurations_are_told_apart(sure):
    figure = overlay_figure({f"cell {number}": sure for number in range(20)}, title="t", risks=[0.05])
    (axes,) = figure.axes
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines() if line.get_label()[0] != "_"}
    assert len(looks) == 20
    assert axes.get_ylim()[1] <= 10


def test_answers_that_are_all_right_have_a_curve_too():
    perfect = ScoredAnswers(np.linspace(0.5, 1, 30), np.ones(30), [str(i) for i in range(30)])
    (axes,) = risk_coverage_figure({"maxprob": perfect}, confidence="maxprob", title="t").axes
    assert axes.get_ylim()[1] > 0
