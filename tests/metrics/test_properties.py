"""The property tests of the reliability specification, on data with many ties."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from reliabit.errors import ReliabitError
from reliabit.metrics import definitions
from reliabit.metrics import functional as fn
from reliabit.metrics.suite import Predictions, evaluate

TENTHS = (0, 3, 6, 9, 10)
RISKS = st.sampled_from([0, 0.005, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1])
COSTS = st.sampled_from([0, 0.5, 1, 2.5, 10, 100])


@st.composite
def predictions(draw, max_size=40):
    """Confidences on a coarse grid, so that most are tied, and VQA accuracies."""
    size = draw(st.integers(1, max_size))
    grid = draw(st.integers(1, 12))
    confidence = draw(st.lists(st.integers(0, grid), min_size=size, max_size=size))
    tenths = draw(st.lists(st.sampled_from(TENTHS), min_size=size, max_size=size))
    return np.array(confidence) / grid, np.array(tenths) / 10


def rank_metrics(confidence, accuracy, cost=10, risk=0.1):
    threshold = fn.effective_reliability_threshold(confidence, accuracy, cost)
    return [
        fn.coverage_at_risk(confidence, accuracy, risk)[0],
        fn.aurc(confidence, accuracy),
        fn.augrc(confidence, accuracy),
        fn.effective_reliability(confidence, accuracy, cost, threshold),
    ]


@given(predictions(), RISKS, COSTS)
def test_1_rank_metrics_are_invariant_under_increasing_maps(data, risk, cost):
    confidence, accuracy = data
    mapped = np.exp(3 * confidence) - 7
    assert rank_metrics(confidence, accuracy, cost, risk) == rank_metrics(mapped, accuracy, cost, risk)


def test_1_calibration_error_is_not():
    assert fn.calibration_error([0.9, 0.1], [1, 0]) != fn.calibration_error([0.81, 0.01], [1, 0])


@given(predictions(), st.randoms(use_true_random=False))
def test_2_no_metric_depends_on_the_order_of_samples(data, random):
    confidence, accuracy = data
    order = list(range(len(confidence)))
    random.shuffle(order)
    first = evaluate(Predictions(confidence, accuracy, {1: 0.3, 10: 0.7}))
    second = evaluate(Predictions(confidence[order], accuracy[order], {1: 0.3, 10: 0.7}))
    assert first == pytest.approx(second, abs=1e-12, nan_ok=True)
    for cost in (1, 10):
        assert fn.effective_reliability_threshold(confidence, accuracy, cost) == fn.effective_reliability_threshold(
            confidence[order], accuracy[order], cost
        )


@given(predictions(), st.lists(RISKS, min_size=2, max_size=2).map(sorted))
def test_3_coverage_grows_with_the_tolerance_and_is_whole_exactly_when_it_may(data, risks):
    low, high = (fn.coverage_at_risk(*data, risk)[0] for risk in risks)
    assert low <= high
    tenths = [int(value) for value in np.rint(10 * data[1])]
    total_risk = Fraction(sum(10 - t for t in tenths), 10 * len(tenths))
    assert (high == 1) == (total_risk <= Fraction(str(risks[1])))


@given(predictions(), COSTS)
def test_3_no_ranking_beats_the_oracle(data, cost):
    confidence, accuracy = data
    assert fn.aurc(accuracy, accuracy) <= fn.aurc(confidence, accuracy) + 1e-12
    assert fn.augrc(accuracy, accuracy) <= fn.augrc(confidence, accuracy) + 1e-12
    threshold = fn.effective_reliability_threshold(accuracy, accuracy, cost)
    assert fn.effective_reliability(accuracy, accuracy, cost, threshold) == pytest.approx(accuracy.mean())


@given(predictions(), st.lists(COSTS, min_size=2, max_size=2).map(sorted), st.floats(0, 1))
def test_4_a_higher_cost_lowers_effective_reliability_and_raises_the_threshold(data, costs, threshold):
    cheap, dear = (fn.effective_reliability(*data, cost, threshold) for cost in costs)
    assert cheap >= dear
    low, high = (fn.effective_reliability_threshold(*data, cost) for cost in costs)
    assert low <= high


@given(st.lists(st.sampled_from(TENTHS), min_size=1, max_size=40), RISKS)
def test_5_a_constant_confidence_answers_all_or_nothing(tenths, risk):
    accuracy = np.array(tenths) / 10
    confidence, n = np.full(len(accuracy), 0.5), len(accuracy)
    assert fn.coverage_at_risk(confidence, accuracy, risk)[0] in (0, 1)
    assert fn.aurc(confidence, accuracy) == pytest.approx((1 - accuracy.mean()) * (1 - 1 / n), abs=1e-12)
    assert fn.augrc(confidence, accuracy) == pytest.approx((1 - accuracy.mean()) / 2, abs=1e-12)


@given(predictions(max_size=20), st.integers(2, 5), RISKS, COSTS)
def test_6_duplicating_the_data_changes_nothing_but_the_edge_of_the_area(data, copies, risk, cost):
    confidence, accuracy = data
    repeated = np.tile(confidence, copies), np.tile(accuracy, copies)
    assert fn.coverage_at_risk(*repeated, risk) == fn.coverage_at_risk(*data, risk)
    assert fn.effective_reliability_threshold(*repeated, cost) == fn.effective_reliability_threshold(*data, cost)
    for metric in (fn.augrc, fn.calibration_error, fn.brier_score, fn.auroc):
        assert metric(*repeated) == pytest.approx(metric(*data), abs=1e-12, nan_ok=True)
    mass = fn.calibration_error(confidence, accuracy, 10, binning="mass")
    assert fn.calibration_error(*repeated, 10, binning="mass") == pytest.approx(mass, abs=1e-12)


@given(predictions(), predictions(), st.floats(0, 1))
def test_8_the_risk_of_a_mixture_lies_between_those_of_its_domains(first, second, threshold):
    both = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    risks = [fn.operating_point(*data, threshold).risk for data in (first, second)]
    mixed = fn.operating_point(*both, threshold).risk
    known = [risk for risk in risks if not np.isnan(risk)]
    if known:
        assert min(known) - 1e-12 <= mixed <= max(known) + 1e-12
    else:
        assert np.isnan(mixed)


@given(predictions(max_size=9))
@settings(max_examples=60)
def test_expected_tie_order_is_the_mean_over_random_orders(data):
    confidence, accuracy = data
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        shuffled = generator.permutation(len(confidence))
        order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
        drawn.append(np.cumsum(1 - accuracy[order]) / np.arange(1, len(order) + 1))
    curve = fn.risk_coverage_curve(confidence, accuracy)
    error = np.std(drawn, axis=0) / 20
    assert (np.abs(np.mean(drawn, axis=0) - curve.risk) <= 6 * error + 1e-9).all()
    assert fn.aurc(confidence, accuracy) == pytest.approx(np.trapezoid(curve.risk, curve.coverage), abs=1e-12)
    assert fn.aurc_mean(confidence, accuracy) == pytest.approx(curve.risk.mean(), abs=1e-12)


@given(predictions(), RISKS)
def test_coverage_at_risk_is_the_largest_over_all_thresholds(data, risk):
    confidence, accuracy = data
    tenths = np.rint(10 * accuracy).astype(int)
    best, best_threshold = 0, np.inf
    for threshold in np.unique(confidence):
        accepted = confidence >= threshold
        loss = Fraction(int((10 - tenths[accepted]).sum()), 10 * int(accepted.sum()))
        if loss <= Fraction(str(risk)) and accepted.sum() > best:
            best, best_threshold = int(accepted.sum()), threshold
    assert fn.coverage_at_risk(confidence, accuracy, risk) == (best / len(confidence), best_threshold)


@given(st.integers(2, 60), st.integers(0, 2**32))
def test_augrc_is_a_function_of_auroc_for_binary_untied_data(n, seed):
    generator = np.random.default_rng(seed)
    confidence, correct = generator.permutation(n) / n, generator.integers(0, 2, n)
    correct[:2] = 0, 1
    acc = correct.mean()
    expected = (1 - fn.auroc(confidence, correct)) * acc * (1 - acc) + (1 - acc) ** 2 / 2
    assert fn.augrc(confidence, correct) == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_discrimination_is_that_of_scikit_learn(data):
    confidence, accuracy = data
    for criterion, wrong in [("half", accuracy < 0.5), ("any", accuracy == 0)]:
        if wrong.any() and not wrong.all():
            assert fn.auroc(*data, criterion=criterion) == pytest.approx(roc_auc_score(~wrong, confidence))
        else:
            assert np.isnan(fn.auroc(*data, criterion=criterion))
        if wrong.any():
            expected = average_precision_score(wrong, -confidence)
            assert fn.aupr_error(*data, criterion=criterion) == pytest.approx(expected)


@given(predictions(), st.sampled_from([1, 3, 10, 15]))
def test_reliability_diagram_adds_up_to_the_calibration_error(data, n_bins):
    for binning in ("width", "mass"):
        bins = fn.reliability_diagram(*data, n_bins, binning=binning)
        held = bins.size > 0
        gaps = np.abs(bins.accuracy - bins.confidence)[held] * bins.size[held]
        assert bins.size.sum() == len(data[0])
        assert gaps.sum() / len(data[0]) == pytest.approx(fn.calibration_error(*data, n_bins, binning=binning))
        assert (bins.lower[held] <= bins.confidence[held] + 1e-12).all()
        assert (bins.confidence[held] <= bins.upper[held] + 1e-12).all()


@given(predictions())
def test_brier_score_is_the_sum_of_its_parts_when_bins_hold_one_confidence_each(data):
    reliability, resolution, uncertainty = fn.brier_decomposition(*data, 400)
    assert reliability - resolution + uncertainty == pytest.approx(fn.brier_score(*data), abs=1e-12)


@given(predictions(), st.sampled_from([0.1, 0.5, 0.8, 1]))
def test_risk_at_coverage_is_read_off_the_curve(data, coverage):
    curve = fn.risk_coverage_curve(*data)
    k = -(-len(data[0]) * Fraction(str(coverage)) // 1)
    assert fn.risk_at_coverage(*data, coverage) == pytest.approx(curve.risk[int(k) - 1], abs=1e-12)


@given(predictions())
def test_rejection_ratio_runs_from_random_to_oracle(data):
    confidence, accuracy = data
    assert fn.e_aurc(accuracy, accuracy) == 0
    if np.ptp(accuracy):
        assert fn.prediction_rejection_ratio(accuracy, accuracy) == pytest.approx(1)
        assert fn.prediction_rejection_ratio(np.zeros(len(accuracy)), accuracy) == pytest.approx(0, abs=1e-9)
    else:
        assert np.isnan(fn.prediction_rejection_ratio(confidence, accuracy))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30), RISKS)
def test_arbitrary_accuracies_work_too(pairs, risk):
    confidence, accuracy = map(list, zip(*pairs, strict=True))
    coverage, threshold = fn.coverage_at_risk(confidence, accuracy, risk)
    point = fn.operating_point(confidence, accuracy, threshold)
    assert point.coverage == coverage
    assert not coverage or point.risk <= risk * (1 + 1e-9)
    assert 0 <= fn.aurc(confidence, accuracy) <= 1


@given(predictions(), st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.999]))
def test_confidently_wrong_are_counted_one_by_one(data, sure):
    counted = sum(confidence > sure and accuracy < 0.5 for confidence, accuracy in zip(*data, strict=True))
    assert fn.confidently_wrong(*data, sure) == counted / len(data[0])
    parts = definitions.confidently_wrong(sure).parts(*data)
    assert parts.mean() == pytest.approx(counted / len(data[0]))


@given(st.integers(1, 60), st.integers(0, 59))
def test_confidently_wrong_of_evenly_spread_confidences(size, wrong):
    """Confidences 1/n to 1 of which the surest are wrong: as many as are above the level, at most those that err."""
    wrong = min(wrong, size)
    confidence = np.arange(1, size + 1) / size
    accuracy = (np.arange(size) < size - wrong).astype(float)
    above = size - math.floor(Fraction(1, 2) * size)
    assert fn.confidently_wrong(confidence, accuracy, 0.5) == min(wrong, above) / size


def test_confidently_wrong_needs_probabilities_and_a_level():
    with pytest.raises(ReliabitError, match=r"sure is 1; it must lie in \[0, 1\)"):
        fn.confidently_wrong([0.5], [1], 1)
    with pytest.raises(ReliabitError, match="confidence"):
        fn.confidently_wrong([1.5], [1])
