"""Certified thresholds: p-values against published numbers, and guarantees against simulation."""

import json
import math

import numpy as np
import pytest

from reliabit.errors import ReliabitError
from reliabit.metrics import (
    Certificate,
    certify_threshold,
    one_per_image,
)
from reliabit.metrics import functional as fn
from reliabit.metrics import p_values as p

PATTERN = np.tile([0, 0.1, 0, 0, 0.4, 0, 0, 0, 0, 0], 20)
METHODS = ("binomial", "hoeffding_bentkus", "betting")


@pytest.mark.parametrize(
    ("wrong", "n", "delta", "bound"),
    [
        (0, 299, 0.05, 0.009969),
        (0, 298, 0.05, 0.010002),
        (0, 59, 0.05, 0.049508),
        (0, 598, 0.05, 0.004997),
        (1, 100, 0.05, 0.046560),
        (3, 500, 0.1, 0.013312),
        (10, 1000, 0.05, 0.016903),
        (50, 2000, 0.1, 0.030091),
    ],
)
def test_clopper_pearson(wrong, n, delta, bound):
    assert p.upper_bound(lambda risk: p.binomial_p_value(n, wrong, risk), delta) == pytest.approx(bound, abs=5e-7)


@pytest.mark.parametrize(
    ("loss", "n", "risk", "binomial", "bentkus"),
    [
        (3, 500, 0.02, 0.00981216, 0.0266722),
        (3, 500, 0.01, 0.263616, 0.624029),
        (10, 1000, 0.02, 0.0102365, 0.0278258),
        (10.4, 1000, 0.02, 0.0204411, 0.0555646),
        (0, 299, 0.01, 0.0495363, 0.0495363),
        (50, 2000, 0.05, 1.23633e-8, 3.36069e-8),
    ],
)
def test_binomial_and_hoeffding_bentkus(loss, n, risk, binomial, bentkus):
    assert p.binomial_p_value(n, math.ceil(loss), risk) == pytest.approx(binomial, rel=1e-5)
    assert p.hoeffding_bentkus_p_value(n, loss, risk) == pytest.approx(bentkus, rel=1e-5)


@pytest.mark.parametrize(
    ("risk", "bentkus", "betting"),
    [
        (0.05, 1, 0.945688),
        (0.10, 0.0219399, 0.000394394),
        (0.15, 1.91301e-5, 4.29618e-8),
        (0.20, 3.03397e-9, 7.06125e-12),
    ],
)
def test_soft_losses(risk, bentkus, betting):
    assert p.hoeffding_bentkus_p_value(200, float(PATTERN.sum()), risk) == pytest.approx(bentkus, rel=1e-5)
    assert p.betting_p_value(PATTERN, risk, delta=0.1) == pytest.approx(betting, rel=1e-5)


def test_zero_losses():
    assert p.betting_p_value(np.zeros(299), 0.01, delta=0.05) == pytest.approx(0.0541, abs=5e-5)
    assert p.betting_p_value(np.zeros(1000), 0.01, delta=0.05) == pytest.approx(5.927e-5, rel=1e-3)
    assert p.hoeffding_bentkus_p_value(299, 0, 0.01) == pytest.approx(0.0495, abs=5e-5)


def test_nothing_accepted_is_no_evidence():
    assert p.binomial_p_value(0, 0, 0.1) == 1
    assert p.hoeffding_bentkus_p_value(0, 0.0, 0.1) == 1
    assert p.betting_p_value(np.array([]), 0.1, delta=0.1) == 1
    assert p.upper_bound(lambda risk: p.binomial_p_value(3, 3, risk), 0.1) == 1


@pytest.mark.parametrize(
    ("risk", "expected"),
    [(0.005, (460, 598, 919)), (0.01, (230, 299, 459)), (0.05, (45, 59, 90)), (0.1, (22, 29, 44)), (0.2, (11, 14, 21))],
)
def test_fewest_accepted(risk, expected):
    assert tuple(p.fewest_accepted(risk, delta) for delta in (0.1, 0.05, 0.01)) == expected


TOY_CONFIDENCE = np.arange(1000, 0, -1) / 1000
TOY_CORRECT = np.ones(1000)
TOY_CORRECT[500::5] = 0


@pytest.mark.parametrize(("risk", "empirical", "sequence"), [(0.02, 555, 520), (0.05, 665, 600), (0.10, 1000, 850)])
def test_toy_walk(risk, empirical, sequence):
    """Fixed-sequence testing from 300 accepted in steps of 10, as in the specification's toy."""
    from reliabit.metrics.certify import _count_passed, _shuffle

    assert fn.coverage_at_risk(TOY_CONFIDENCE, TOY_CORRECT, risk)[0] == empirical / 1000
    evidence = _shuffle(TOY_CONFIDENCE, TOY_CORRECT, method="binomial", level=0.05, seed=0)
    passed = _count_passed(TOY_CONFIDENCE[299::10], evidence, risk)
    assert 300 + 10 * (passed - 1) == sequence


# Confidence u is uniform and an answer is wrong with probability SLOPE (1 - u), so that the selective risk of a
# threshold t is SLOPE (1 - t) / 2 exactly.
SLOPE, RISK, DELTA = 0.27, 0.05, 0.1


def draw(generator, n, *, soft=False):
    u = generator.random(n)
    wrong = generator.random(n) < SLOPE * (1 - u)
    if not soft:
        return u, 1.0 - wrong
    # A wrong answer now loses 0.1, 0.7 or 1: 0.7 in the mean.
    return u, 1 - wrong * generator.choice([0.1, 0.7, 1.0], n, p=[0.25, 0.25, 0.5])


def true_risk(threshold, *, mean_loss=1.0):
    return mean_loss * SLOPE * (1 - max(threshold, 0.0)) / 2


def allowed(delta, n):
    return delta + 3 * math.sqrt(delta * (1 - delta) / n)


@pytest.mark.medium
def test_the_guarantee_holds_in_simulation_and_the_naive_threshold_does_not():
    generator = np.random.default_rng(0)
    repeats, coverage, certified, naive = 1200, [], 0, 0
    for _ in range(repeats):
        dev, cal = draw(generator, 2000), draw(generator, 3000)
        certificate = certify_threshold(*dev, *cal, RISK, DELTA)
        certified += true_risk(certificate.threshold) > RISK
        naive += true_risk(fn.coverage_at_risk(*cal, RISK)[1]) > RISK
        coverage.append(certificate.coverage)
    assert certified / repeats <= allowed(DELTA, repeats)
    assert naive / repeats > 0.4
    assert np.mean(coverage) > 0.25
    assert np.mean(np.array(coverage) == 0) < 0.06


@pytest.mark.parametrize("method", ["betting", "hoeffding_bentkus"])
def test_the_guarantee_holds_for_soft_losses(method):
    generator = np.random.default_rng(1)
    repeats, violations, coverage = 150, 0, []
    for _ in range(repeats):
        dev, cal = draw(generator, 1000, soft=True), draw(generator, 2000, soft=True)
        certificate = certify_threshold(*dev, *cal, RISK, DELTA, method=method)
        violations += true_risk(certificate.threshold, mean_loss=0.7) > RISK
        coverage.append(certificate.coverage)
    assert violations / repeats <= allowed(DELTA, repeats)
    assert np.mean(coverage) > 0.15


@pytest.mark.parametrize("method", METHODS)
def test_a_certificate_tells_its_evidence(method):
    generator = np.random.default_rng(4)
    dev, cal = draw(generator, 2000, soft=True), draw(generator, 6000, soft=True)
    certificate = certify_threshold(*dev, *cal, RISK, DELTA, method=method, seed=5)
    accepted = cal[0] >= certificate.threshold
    loss = 1 - cal[1][accepted]
    assert certificate.n_accepted == accepted.sum() == certificate.coverage * 6000
    assert certificate.loss_sum == pytest.approx((loss > 0).sum() if method == "binomial" else loss.sum())
    assert certificate.p_value <= DELTA
    assert loss.mean() < certificate.bound <= RISK
    assert (certificate.n_cal, certificate.n_dev, certificate.method) == (6000, 2000, method)
    assert len({certificate.cal_sha256, certificate.dev_sha256, certificate.sequence_sha256}) == 3
    assert certify_threshold(*dev, *cal, RISK, DELTA, method=method, seed=5) == certificate
    changed = certify_threshold(*dev, cal[0], np.r_[cal[1][:-1], 1 - cal[1][-1]], RISK, DELTA, method=method)
    assert changed.cal_sha256 != certificate.cal_sha256
    assert Certificate.from_dict(json.loads(json.dumps(certificate.to_dict()))) == certificate


def test_abstaining_from_everything_is_a_certificate_too():
    wrong = np.linspace(0, 1, 500), np.zeros(500)
    certificate = certify_threshold(*wrong, *wrong, 0.05, 0.1)
    assert (certificate.threshold, certificate.n_accepted, certificate.p_value) == (math.inf, 0, 1.0)
    assert certificate.to_dict()["threshold"] is None
    assert Certificate.from_dict(certificate.to_dict()) == certificate
    too_few = np.linspace(0, 1, 10), np.ones(10)
    assert certify_threshold(*too_few, *too_few, 0.01, 0.05).threshold == math.inf


def test_more_comparisons_answer_less():
    generator = np.random.default_rng(6)
    dev, cal = draw(generator, 2000), draw(generator, 3000)
    one, twenty = (certify_threshold(*dev, *cal, RISK, DELTA, comparisons=k) for k in (1, 20))
    assert one.coverage > twenty.coverage
    assert twenty.p_value <= DELTA / 20


def test_auto_looks_at_the_dev_split_only():
    generator = np.random.default_rng(7)
    hard, soft = draw(generator, 2000), draw(generator, 2000, soft=True)
    assert certify_threshold(*hard, *soft, RISK, DELTA).method == "binomial"
    assert certify_threshold(*soft, *hard, RISK, DELTA).method == "betting"


def test_one_question_an_image():
    images = np.repeat(np.arange(50), 4)
    kept = one_per_image(images, seed=3)
    assert sorted(images[kept]) == list(range(50))
    assert (kept == one_per_image(images.tolist(), seed=3)).all()
    assert set(kept % 4) == {0, 1, 2, 3}
    data = np.linspace(0, 1, 200), np.ones(200)
    certificate = certify_threshold(*data, *data, 0.1, 0.1, cal_image_ids=images)
    assert (certificate.n_cal, certificate.one_per_image) == (50, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk": 0}, "risk is 0; it must lie in"),
        ({"delta": 1}, "delta is 1; it must lie in"),
        ({"comparisons": 0}, "comparisons is 0; it must be at least 1"),
        ({"method": "wilson"}, "method is 'wilson'; it must be auto or one of binomial, hoeffding_bentkus, betting"),
        ({"cal_accuracy": [1, 2]}, r"cal_accuracy\[1\] is 2"),
        ({"val_confidence": [math.nan, 1]}, r"val_confidence\[0\] is nan"),
        ({"cal_image_ids": ["a"]}, "cal_image_ids has 1 values and cal_confidence has 2"),
    ],
)
def test_bad_input(change, message):
    names = ("val_confidence", "val_accuracy", "cal_confidence", "cal_accuracy")
    good = {name: [0.5, 1.0] for name in names}
    with pytest.raises(ReliabitError, match=message):
        certify_threshold(**(good | {"risk": 0.1, "delta": 0.1} | change))
