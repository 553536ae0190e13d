"""What a page draws, held against sums over the answers themselves."""

import numpy as np
import pytest

from evaluation.sweep_report.made import IMAGES, POLICY, SETTINGS, answers
from reliabit.evaluation.prediction_columns import ScoredAnswers, reported_rows, scored_answers
from reliabit.evaluation.sweep_report.curves import (
    POINTS,
    operating_points,
    reliability_bins,
    risk_coverage,
    risk_targets,
    shifted_sets,
)


@pytest.fixture(scope="module")
def predictions():
    return answers(0.9)


@pytest.fixture(scope="module")
def scored(predictions):
    return scored_answers(reported_rows(predictions, "test"), "maxprob")


def test_a_curve_holds_the_mean_loss_of_the_surest(scored):
    losses = 1 - scored.accuracy[np.argsort(-scored.confidence)]
    drawn = risk_coverage(scored)
    assert len(drawn) == POINTS
    for coverage, risk in drawn:
        surest = round(coverage / 100 * len(losses))
        assert risk == pytest.approx(100 * losses[:surest].mean(), abs=0.006)


def test_bins_are_the_mean_accuracy_of_what_lies_in_them(scored):
    drawn = reliability_bins(scored, level=0.95)
    assert sum(size for *_, size in drawn) == len(scored.accuracy)
    order = np.argsort(scored.confidence)
    first = 0
    for confidence, accuracy, low, high, size in drawn:
        within = order[first : first + size]
        first += size
        assert confidence == pytest.approx(100 * scored.confidence[within].mean(), abs=0.006)
        assert accuracy == pytest.approx(100 * scored.accuracy[within].mean(), abs=0.006)
        assert low <= accuracy <= high


def test_a_target_comes_to_what_its_threshold_answers(predictions, scored):
    found = operating_points(predictions, "maxprob", policy=POLICY, comparisons=3)
    assert len(found) == len(risk_targets(POLICY))
    assert all(one["certified"] for one in found)
    answered = [one for one in found if one["threshold"] is not None]
    assert len(answered) > 3
    for one in answered:
        accepted = scored.confidence >= one["threshold"]
        assert one["coverage"] == pytest.approx(100 * accepted.mean(), abs=0.006)
        assert one["risk"] == pytest.approx(100 * (1 - scored.accuracy[accepted]).mean(), abs=0.006)
    assert [one["promised"] for one in found] == sorted(one["promised"] for one in found)
    nothing = [one for one in found if one["threshold"] is None]
    assert all((one["coverage"], one["promised"], one["risk"]) == (0, 0, None) for one in nothing)


def test_without_calibration_a_threshold_is_read_off_and_says_so():
    predictions = answers(0.9, images=IMAGES | {"cal": 0})
    found = operating_points(predictions, "maxprob", policy=POLICY, comparisons=3)
    assert not any(one["certified"] for one in found)
    assert all(one["promised"] is None for one in found)
    for risk, one in zip(risk_targets(POLICY), found, strict=True):
        assert one["risk"] is None or one["risk"] <= 100 * risk + 0.006


def test_a_confidence_beyond_one_has_no_bins():
    assert reliability_bins(ScoredAnswers(np.array([-3.0, 2.0]), np.ones(2), ["a", "b"]), level=0.95) == []


def test_shifts_are_measured_beside_the_questions_as_they_are():
    assert shifted_sets(answers(0.9), ["maxprob"], settings=SETTINGS) == []
    asked = answers(0.9, shifts=["blur_3"])
    plain, shifted = shifted_sets(asked, ["maxprob"], settings=SETTINGS)
    assert (plain["name"], shifted["name"]) == ("in_domain", "blur_3")
    # The made shift changes nothing.
    mean = 100 * reported_rows(asked, "test")["accuracy"].to_numpy().mean()
    assert plain["accuracy"] == shifted["accuracy"] == pytest.approx(mean, abs=0.006)
    assert plain["aurc"] == shifted["aurc"]
