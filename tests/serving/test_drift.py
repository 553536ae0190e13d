"""The drift watch: exact p-values, a fair game, few false alarms however often one looks, and quick true ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom, kstest

from reliabit.serving.drift.e_processes import (
    ExchangeabilityTest,
    Martingale,
    RankedSample,
    RateTest,
    log_largest,
    log_mixture,
    mean_capital,
    two_sided,
)
from reliabit.serving.drift.watch import Watch

CALIBRATION = 700


def scores(a, b):
    """Confidences with ties by the dozen."""
    return lambda random, n: np.round(random.beta(a, b, n), 2)


def abstentions(rate):
    return lambda random, n: (random.random(n) < rate).astype(float)


def log_e(before, after, *, streams, length, seed):
    """The log e-value of each stream after each answer, `[streams, length]`."""
    random = np.random.default_rng(seed)
    p_values = np.empty((streams, length))
    for stream in p_values:
        sample = RankedSample(before(random, CALIBRATION))
        ties = random.random(length)
        stream[:] = [sample.p_value(value, tie=tie) for value, tie in zip(after(random, length), ties, strict=True)]
    game, found = Martingale.start(streams, 2), np.empty((streams, length))
    for number in range(length):
        game = game.bet(two_sided(p_values[:, number]))
        found[:, number] = mean_capital(game.log_value)
    return found


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 5), st.floats(0, 1, exclude_max=True))
def test_p_values_are_ranks_by_brute_force(values, value, tie):
    bag = [*values, value]
    expected = (sum(other > value for other in bag) + (1 - tie) * sum(other == value for other in bag)) / len(bag)
    sample = RankedSample(values)
    assert sample.p_value(value, tie=tie) == pytest.approx(expected)
    assert len(sample) == len(bag)


@pytest.mark.parametrize("draw", [scores(4, 1), abstentions(0.1)])
def test_p_values_are_uniform_and_independent_from_a_tiny_sample(draw):
    """Exactly, from only 5 calibration answers: first and second p-value over many repetitions."""
    random = np.random.default_rng(0)
    pairs = np.empty((4000, 2))
    for pair in pairs:
        sample = RankedSample(draw(random, 5))
        pair[:] = [sample.p_value(value, tie=random.random()) for value in draw(random, 2)]
    assert kstest(pairs[:, 0], "uniform").pvalue > 1e-3
    assert kstest(pairs[:, 1], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(len(pairs))


@given(st.lists(st.floats(0, 1), max_size=30))
def test_the_game_is_fair_wherever_it_stands(p_values):
    """The mean capital over a uniform next p-value is the capital now: bets are linear, so the midpoints are exact."""
    game = Martingale.start()
    for p_value in p_values:
        game = game.bet(p_value)
    grid = (np.arange(100) + 0.5) / 100
    following = [float(game.bet(p_value).log_value) for p_value in grid]
    assert np.logaddexp.reduce(following) - math.log(100) == pytest.approx(float(game.log_value), abs=1e-9)


def test_false_alarms_are_as_rare_as_promised():
    """A thousand streams of 2000 answers, looked at after every one."""
    highest = log_e(scores(4, 1), scores(4, 1), streams=1000, length=2000, seed=1).max(axis=1)
    assert_rare(highest)
    # It does alarm at times: a test that never does would prove nothing.
    assert (highest >= -math.log(0.2)).any()


@pytest.mark.parametrize("rate", [0.03, 0.5])
def test_false_alarms_about_a_rate_are_as_rare_as_promised(rate):
    assert_rare(np.array([watched(rate, rate, length=1000, seed=seed).highest for seed in range(300)]))


def assert_rare(highest):
    for level in (0.05, 0.2):
        error = math.sqrt(level * (1 - level) / len(highest))
        assert (highest >= -math.log(level)).mean() <= level + 3 * error


def watched(before, after, *, length, seed, level=0.005):
    """The test of a rate after so many answers."""
    random = np.random.default_rng(seed)
    test = RateTest(int(random.binomial(CALIBRATION, before)), CALIBRATION, level=level)
    for hit in (random.random(length) < after).tolist():
        test.observe(hit)
    return test


@pytest.mark.parametrize(("before", "after", "within"), [(0.15, 0.5, 60), (0.15, 0.3, 400), (0.15, 0.05, 500)])
def test_changes_of_a_rate_are_found_quickly(before, after, within):
    alarms = [watched(before, after, length=1000, seed=seed).alarmed_at for seed in range(30)]
    assert np.median([math.inf if alarm is None else alarm for alarm in alarms]) <= within


@pytest.mark.parametrize(("hits", "size"), [(0, 0), (2, 7), (7, 7)])
def test_the_mixture_is_an_integral_and_the_largest_likelihood_a_maximum(hits, size):
    def likelihood(rate):
        return rate**hits * (1 - rate) ** (size - hits)

    mixed, _ = quad(lambda rate: likelihood(rate) / (math.pi * math.sqrt(rate * (1 - rate))), 0, 1)
    assert math.exp(log_mixture(hits, size)) == pytest.approx(mixed, rel=1e-6)
    assert math.exp(log_largest(hits, size)) == pytest.approx(max(map(likelihood, np.linspace(0, 1, 70_001))), rel=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_e_value_of_a_rate_is_at_most_one_on_average(rate):
    """Exactly, over every outcome of 4 calibration answers and 5 served ones."""
    total = 0.0
    for before in range(5):
        for after in range(6):
            chance = binom.pmf(before, 4, rate) * binom.pmf(after, 5, rate)
            total += chance * math.exp(RateTest(before, 4, level=0.01, hits=after, seen=5).log_e)
    assert 0 < total <= 1


@pytest.mark.parametrize(
    ("before", "after", "within"),
    [
        (scores(4, 1), scores(2, 1), 150),
        (scores(4, 1), scores(1, 1), 50),
        # As sure on average, but never very sure and never unsure: only the spread tells.
        (scores(4, 1), scores(40, 10), 50),
    ],
)
def test_shifts_are_found_quickly(before, after, within):
    found = log_e(before, after, streams=60, length=1000, seed=2) >= -math.log(0.005)
    delays = np.where(found.any(1), found.argmax(1) + 1, np.inf)
    assert np.median(delays) <= within


def test_the_single_stream_is_that_of_the_simulation():
    random = np.random.default_rng(0)
    calibration, values, ties = random.random(50), random.random(200) ** 6, random.random(200)
    test, sample = ExchangeabilityTest(RankedSample(calibration), level=0.01), RankedSample(calibration)
    game, highest, crossed = Martingale.start(2), 0.0, None
    for number, (value, tie) in enumerate(zip(values, ties, strict=True), start=1):
        test.observe(value, tie=tie)
        game = game.bet(two_sided(np.array(sample.p_value(value, tie=tie))))
        highest = max(highest, float(mean_capital(game.log_value)))
        if crossed is None and highest >= math.log(100):
            crossed = number
    assert (test.highest, test.alarmed_at, test.seen) == (highest, crossed, 200)
    assert crossed is not None


def test_the_watch_reports_and_its_alarm_stays():
    random = np.random.default_rng(3)
    watch = Watch(random.beta(4, 1, 300), threshold=0.6, draw=random.random)
    assert watch.report.abstention_rate is None
    watch.observe(random.beta(4, 1, 300).tolist())
    quiet = watch.report
    assert not quiet.alarm
    assert quiet.abstention_rate == pytest.approx(quiet.calibration_abstention_rate, abs=0.1)
    watch.observe(random.beta(1, 1, 300).tolist())
    alarmed = watch.report
    assert alarmed.alarm
    assert 300 < alarmed.tests["confidence"].alarmed_at <= 400
    watch.observe(random.beta(4, 1, 3000).tolist())
    assert watch.report.alarm
    assert watch.report.answers == 3600
    assert quiet.answers == 300, "a report is what it was"


def test_the_watch_starts_over_at_smaller_levels():
    random = np.random.default_rng(4)
    watch = Watch(random.random(50), threshold=0.5, level=0.01, horizon=100, draw=random.random)
    needed = []
    for _ in range(3):
        watch.observe(random.random(100).tolist())
        needed.append(watch.report.tests["confidence"].needed)
    assert watch.report.epoch == 3
    levels = [2 * math.exp(-one) for one in needed]
    assert levels == pytest.approx([0.01 * 6 / (math.pi * k) ** 2 for k in (1, 2, 3)])
    watch.observe((random.random(100) ** 8).tolist())
    assert watch.report.alarm
    assert 300 < watch.report.tests["confidence"].alarmed_at <= 400


def test_a_threshold_that_abstains_on_everything_never_alarms_by_abstention():
    random = np.random.default_rng(5)
    watch = Watch(random.random(50), threshold=math.inf, draw=random.random)
    watch.observe(random.random(500).tolist())
    assert (watch.report.alarm, watch.report.abstention_rate, watch.report.calibration_abstention_rate) == (False, 1, 1)
