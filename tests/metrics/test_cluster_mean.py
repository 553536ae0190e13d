"""The interval of a mean by image: closed forms, an exact enumeration, resamples with one more image, and its size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import beta, binomtest

from reliabit.errors import ReliabitError
from reliabit.metrics.cluster_mean import ClusterMean, cluster_mean
from reliabit.metrics.functional import augrc, augrc_parts
from reliabit.metrics.functional.area import augrc_of
from reliabit.metrics.functional.ranking import rank

LEVELS = (0.8, 0.95, 1 - 0.05 / 9)


def means():
    """Images of one to nine questions, each of which is lost, kept or won."""
    image = st.integers(1, 9).flatmap(lambda size: st.tuples(st.integers(-size, size), st.just(size)))
    return st.lists(image, min_size=1, max_size=30).map(
        lambda images: ClusterMean(*np.array(images, dtype=float).T, low=-1.0, high=1.0)
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("right", "asked"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (299, 300), (9990, 10_000)])
def test_single_right_and_wrong_answers_have_the_interval_of_clopper_and_pearson(right, asked, level):
    found = cluster_mean(np.arange(asked) < right, range(asked)).interval(level=level)
    exact = binomtest(right, asked).proportion_ci(level, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-8)
    assert (found.estimate, found.level) == (right / asked, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("images", "each"), [(12, 8), (20, 1), (183, 1), (1000, 10)])
def test_without_a_difference_it_reaches_as_far_as_a_share_of_images_may_be_lost_unseen(images, each, level):
    alike = cluster_mean(np.zeros(images * each), np.repeat(np.arange(images), each).tolist(), low=-1.0)
    found = alike.interval(level=level)
    unseen = 1 - ((1 - level) / 2) ** (1 / images)
    assert (found.low, found.high) == pytest.approx((-unseen, unseen), abs=1e-8)
    assert alike.unseen(level=level) == pytest.approx(unseen)


@pytest.mark.parametrize("count", [1, 2, 5, 13])
@pytest.mark.parametrize("level", LEVELS)
def test_losses_and_wins_of_single_questions_are_covered_exactly(count, level):
    """Every outcome of `count` questions, and its probability at every rate of losses and of wins on a grid."""
    outcomes = np.array([(lost, won) for lost in range(count + 1) for won in range(count + 1 - lost)])
    lows = np.array(
        [
            cluster_mean(np.repeat([-1.0, 1.0, 0.0], [lost, won, count - lost - won]), range(count), low=-1.0)
            .interval(level=level)
            .low
            for lost, won in outcomes
        ]
    )
    rates = np.array([0.0, *np.geomspace(1e-4, 0.5, 24), 0.6, 0.7, 0.8, 0.9, 0.99])
    lost, won = (grid.ravel() for grid in np.meshgrid(rates, rates))
    lost, won = lost[lost + won <= 1], won[lost + won <= 1]
    numbers = np.column_stack([outcomes, count - outcomes.sum(axis=1)])
    ways = gammaln(count + 1) - gammaln(numbers + 1).sum(axis=1)
    chances = np.exp(ways)[:, None] * np.prod(
        np.stack([lost, won, 1 - lost - won])[None] ** numbers[:, :, None], axis=1
    )
    missed = np.sum(chances * (lows[:, None] > won - lost + 1e-8), axis=0)
    assert chances.sum(axis=0) == pytest.approx(1)
    assert missed.max() <= (1 - level) / 2


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_quantile_of_weighed_images_with_a_lost_one_more(seed):
    rng = np.random.default_rng(seed)
    totals = rng.integers(-4, 5, size=40) * rng.choice([1.0, 0.3], size=40)
    found = ClusterMean(totals, np.full(40, 4.0), -1.0, 1.0).interval(level=0.9)
    weights = rng.standard_exponential((200_000, 41))
    lows = (weights[:, :-1] @ totals - 4 * weights[:, -1]) / (4 * weights.sum(axis=1))
    highs = (weights[:, :-1] @ totals + 4 * weights[:, -1]) / (4 * weights.sum(axis=1))
    assert (lows <= found.low).mean() == pytest.approx(0.05, abs=0.003)
    assert (highs >= found.high).mean() == pytest.approx(0.05, abs=0.003)


def test_many_images_have_the_interval_of_a_normal_distribution():
    rng = np.random.default_rng(0)
    gains = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=20_000)
    found = cluster_mean(gains, range(20_000), low=-1.0).interval(level=0.95)
    assert found.low == pytest.approx(gains.mean() - 1.96 * gains.std() / 20_000**0.5, abs=3e-4)
    assert found.high == pytest.approx(gains.mean() + 1.96 * gains.std() / 20_000**0.5, abs=3e-4)


@settings(max_examples=30)
@given(means(), st.sampled_from(LEVELS))
def test_intervals_hold_the_estimate_mirror_and_widen_with_the_level(mean, level):
    found = mean.interval(level=level)
    assert -1 <= found.low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= found.high <= 1
    mirrored = mean.times(-1.0).interval(level=level)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-8)
    assert mean.interval(level=(1 + level) / 2).low <= found.low + 1e-9


@settings(max_examples=30)
@given(means(), st.integers(0, 2**16))
def test_one_more_lost_question_never_raises_the_lower_end(mean, seed):
    image = np.random.default_rng(seed).integers(len(mean.totals))
    totals = mean.totals.copy()
    totals[image] = max(totals[image] - 1, -mean.sizes[image])
    worse = ClusterMean(totals, mean.sizes, -1.0, 1.0)
    assert worse.interval(level=0.9).low <= mean.interval(level=0.9).low + 1e-8


@settings(max_examples=30)
@given(means(), st.sampled_from(LEVELS), st.floats(-0.99, 0.99))
def test_the_lower_end_is_where_the_p_value_is_that_of_the_level(mean, level, value):
    low = mean.interval(level=level).low
    if abs(value - low) > 1e-6:
        assert (mean.p_value(value, level=level) < (1 - level) / 2) == (value < low)


@pytest.mark.parametrize("seed", range(4))
def test_images_of_many_sizes_may_lose_no_more_unseen_than_a_numeric_search_finds(seed):
    from scipy.optimize import minimize

    sizes = np.random.default_rng(seed).integers(1, 21, size=6).astype(float)
    mean = ClusterMean(np.zeros(6), sizes, -1.0, 1.0)
    rules = {"type": "ineq", "fun": lambda p: np.log1p(-p).sum() - np.log(0.025)}
    searched = minimize(
        lambda p: -(p @ sizes) / sizes.sum(), np.full(6, 0.3), bounds=[(0, 0.9999)] * 6, constraints=rules, tol=1e-10
    )
    assert mean.unseen(level=0.95) == pytest.approx(-searched.fun, abs=1e-5)
    assert mean.interval(level=0.95).low == pytest.approx(searched.fun, abs=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss", [0.02, 0.05])
def test_the_number_of_images_that_is_asked_for_is_enough_and_one_less_is_not(level, loss):
    def low(images):
        return cluster_mean(np.zeros(images), range(images), low=-1.0).interval(level=level).low

    few = cluster_mean(np.zeros(12 * 8), np.repeat(np.arange(12), 8).tolist(), low=-1.0)
    needed = few.images_needed(loss, level=level)
    assert low(needed) >= -loss - 1e-9 > low(needed - 1)
    # All of so many questions right, by Clopper and Pearson.
    assert beta.ppf((1 - level) / 2, needed, 1) >= 1 - loss > beta.ppf((1 - level) / 2, needed - 1, 1)


def test_images_without_a_question_that_counts_are_left_out():
    values, images = np.array([1.0, 0.0, 1.0, 0.0]), ["a", "a", "b", "c"]
    found = cluster_mean(values, images, rows=np.array([True, True, False, True]))
    assert (found.totals.tolist(), found.sizes.tolist()) == ([1.0, 0.0], [2.0, 1.0])
    with pytest.raises(ReliabitError, match="no question counts"):
        cluster_mean(values, images, rows=np.zeros(4, dtype=bool))


def test_unusable_arguments_are_refused():
    mean = cluster_mean(np.zeros(3), range(3))
    with pytest.raises(ReliabitError, match="level is 1"):
        mean.interval(level=1.0)
    with pytest.raises(ReliabitError, match="loss is 0"):
        mean.images_needed(0.0, level=0.95)
    with pytest.raises(ReliabitError, match="different images"):
        mean.minus(cluster_mean(np.zeros(3), ["a", "a", "b"]))


def scored():
    return st.integers(2, 30).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), min_size=n, max_size=n),
            st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]), min_size=n, max_size=n),
        )
    )


@settings(max_examples=50)
@given(scored())
def test_the_parts_of_augrc_have_it_as_their_mean_and_are_its_slope(data):
    confidence, accuracy = data
    parts = augrc_parts(confidence, accuracy)
    assert parts.mean() == pytest.approx(augrc(confidence, accuracy))
    # More weight on one prediction moves AUGRC as its part says.
    ranking, count, million = rank(confidence, accuracy), len(confidence), 10**6
    weights = np.full((count, count), million) + np.eye(count, dtype=np.int64)
    moved = augrc_of(ranking.groups(weights)) - augrc_of(ranking.groups())
    slopes = moved * (count * million + 1)
    assert slopes == pytest.approx(parts[ranking.order] - parts.mean(), abs=1e-4)
