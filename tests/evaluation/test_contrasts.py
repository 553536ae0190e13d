"""Contrasts: intervals whose tails lie beyond the resamples, sides of zero, and conditions that combine."""

import numpy as np
import pytest
from scipy import stats

from reliabit.evaluation.paper._contrasts import (
    ABOVE_ZERO,
    BELOW_ZERO,
    NOT_BELOW_ZERO,
    SHORT_OF_ZERO,
    Planned,
    every,
    some,
    within,
)
from reliabit.evaluation.resampled import Resampled
from reliabit.metrics.intervals import Interval


def resampled(estimate, *, spread=1.0, n=1000, seed=0):
    return Resampled(estimate, estimate + spread * np.random.default_rng(seed).standard_normal(n))


def test_a_resolved_interval_is_the_percentile_one():
    value = resampled(0.3)
    found = value.interval(level=0.95)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(value.replicates, [0.025, 0.975])))


@pytest.mark.parametrize("comparisons", [10, 36, 100])
def test_a_corrected_interval_reaches_as_far_as_the_normal_one(comparisons):
    level = 1 - 0.05 / comparisons
    reach = stats.norm.ppf(1 - 0.025 / comparisons)
    for seed in range(20):
        value = resampled(0.0, seed=seed)
        found = value.interval(level=level)
        assert found.high >= reach * value.replicates.std() - 1e-9
        assert found.low <= -reach * value.replicates.std() + 1e-9
        assert found.high < 1.5 * reach


def test_skewed_tails_are_not_cut_by_the_normal_interval():
    replicates = np.random.default_rng(0).exponential(size=1000)
    value = Resampled(float(replicates.mean()), replicates)
    assert value.interval(level=0.999).high > np.quantile(replicates, 0.999)


def test_undefined_replicates_leave_a_contrast_undecided():
    found = Resampled(np.nan, np.full(100, np.nan)).interval(level=0.99)
    assert np.isnan(found.low)
    assert BELOW_ZERO.verdict(found) == NOT_BELOW_ZERO.verdict(found) == within(1).verdict(found) == "undecided"


def test_independent_differences_have_the_spread_of_both():
    shared = np.random.default_rng(0).standard_normal(4000)
    one, other = Resampled(1.0, 1 + shared), Resampled(0.0, shared)
    assert one.minus(other).replicates.std() == pytest.approx(0)
    apart = one.minus_independent(other)
    assert apart.estimate == 1
    assert apart.replicates.std() == pytest.approx(np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        (BELOW_ZERO, -2, -1, "supported"),
        (BELOW_ZERO, -2, 1, "undecided"),
        (BELOW_ZERO, 1, 2, "not supported"),
        (BELOW_ZERO, 0, 0, "undecided"),
        (ABOVE_ZERO, 1, 2, "supported"),
        (ABOVE_ZERO, -2, -1, "not supported"),
        (ABOVE_ZERO, 0, 0, "undecided"),
        (NOT_BELOW_ZERO, 0, 1, "supported"),
        (NOT_BELOW_ZERO, -2, -1, "not supported"),
        (SHORT_OF_ZERO, 0, 1, "not supported"),
        (SHORT_OF_ZERO, -2, -1, "supported"),
        (within(1), -1, 1, "supported"),
        (within(1), -1.1, 0, "undecided"),
        (within(1), 1.1, 2, "not supported"),
        (within(1), -3, -2, "not supported"),
    ],
)
def test_sides(expected, low, high, verdict):
    assert expected.verdict(Interval((low + high) / 2, low, high, 0.95)) == verdict


def test_conditions_combine():
    kinds = ("supported", "undecided", "not measured", "not supported")
    for first in kinds:
        assert every([first]) == some([first]) == first
        assert every([first, "not supported"]) == "not supported"
        assert some([first, "supported"]) == "supported"
    assert every(["supported", "not measured"]) == "not measured"
    assert some(["not supported", "undecided"]) == "undecided"
    assert every([]) == some([]) == "not measured"


def test_corrected_claims_are_seldom_wrong_about_nothing():
    rng = np.random.default_rng(0)
    contrasts, wrong, trials = 12, 0, 400
    for _ in range(trials):
        # Nothing differs: estimates scatter about zero as their resamples about them.
        estimates = rng.standard_normal(contrasts)
        planned = [
            Planned("", "", "", Resampled(estimate, estimate + rng.standard_normal(1000)), BELOW_ZERO)
            for estimate in estimates
        ]
        wrong += any(one.judge(level=1 - 0.05 / contrasts).verdict != "undecided" for one in planned)
    assert wrong / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
