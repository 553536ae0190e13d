import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from confidence.answers import draw_answers, scalars_of
from reliabit.confidence.estimators.formulas import MAXPROB
from reliabit.confidence.estimators.regressions import FittedLogistic, Isotonic, Logistic, Platt, drawn_inwards
from reliabit.confidence.examples import AnswerEvidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.metrics.functional import augrc, aurc, calibration_error, coverage_at_risk

TRAIN, TEST = draw_answers(2000, seed=1), draw_answers(3000, seed=2, images="b")


def examples(log_prob, accuracy):
    log_prob = np.asarray(log_prob, dtype=float)
    return Examples(
        columns=scalars_of(log_prob, np.ones(len(log_prob))),
        accuracy=np.asarray(accuracy, dtype=float),
        image_keys=[f"a/{index}" for index in range(len(log_prob))],
    )


def cross_entropy(logits, targets):
    return np.mean(np.logaddexp(0, logits) - targets * logits)


def pooled_adjacent_violators(values):
    blocks = []
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (mean, size), (last, more) = blocks[-2], blocks.pop()
            blocks[-1] = [(mean * size + last * more) / (size + more), size + more]
    return np.concatenate([[mean] * size for mean, size in blocks])


def test_platt_is_the_optimum_that_a_general_minimizer_finds():
    [platt] = Platt().fit(TRAIN, TRAIN)
    odds, targets = logit(np.exp(TRAIN.columns["log_prob"])), drawn_inwards(TRAIN.accuracy)
    found = minimize(lambda w: cross_entropy(w[0] * odds + w[1], targets), [1.0, 0.0], tol=1e-12)
    np.testing.assert_allclose([*platt.weights, platt.bias], found.x, rtol=1e-4)
    expected = expit(platt.weights * logit(np.exp(TEST.columns["log_prob"])) + platt.bias)
    np.testing.assert_allclose(platt(TEST), expected, rtol=1e-9)


def test_platt_can_leave_maxprob_as_it_is():
    identity = FittedLogistic(Platt(), weights=np.ones(1), bias=0.0, fitted_on=FittedOn(trained=()))
    log_prob = -np.geomspace(1e-20, 700, 200)
    np.testing.assert_allclose(identity(AnswerEvidence(columns={"log_prob": log_prob})), np.exp(log_prob), rtol=1e-12)


def test_platt_keeps_the_ranking_and_mends_the_calibration():
    before, after = MAXPROB(TEST), Platt().fit(TRAIN, TRAIN)[0](TEST)
    for metric in (aurc, augrc):
        assert metric(after, TEST.accuracy) == pytest.approx(metric(before, TEST.accuracy), abs=1e-12)
    for risk in (0.05, 0.1, 0.2):
        expected, _ = coverage_at_risk(before, TEST.accuracy, risk)
        assert coverage_at_risk(after, TEST.accuracy, risk)[0] == expected
    errors = [calibration_error(confidence, TEST.accuracy, n_bins=15) for confidence in (before, after)]
    assert errors[0] > 0.1
    assert errors[1] < 0.25 * errors[0]


def test_platt_never_turns_the_ranking_round():
    [platt] = Platt().fit(examples([-3, -2, -1, -0.5], [1, 1, 0, 0]), TRAIN)
    assert platt.weights == [0]
    np.testing.assert_allclose(platt(TEST), 0.5, rtol=1e-12)


@pytest.mark.parametrize(("accuracy", "share"), [([1, 1, 1], 4 / 5), ([0, 0, 0], 1 / 5)])
def test_equal_log_probs_and_equal_accuracies_have_a_finite_optimum(accuracy, share):
    for estimator in (Platt(), Logistic()):
        [fitted] = estimator.fit(examples([-0.1] * 3, accuracy), TRAIN)
        np.testing.assert_allclose(fitted(examples([-0.1], [1])), [share], rtol=1e-6)


def test_isotonic_pools_adjacent_violators():
    order = np.argsort(TRAIN.columns["log_prob"])
    expected = pooled_adjacent_violators(TRAIN.accuracy[order])
    np.testing.assert_allclose(Isotonic().fit(TRAIN, TRAIN)[0](TRAIN)[order], expected, atol=1e-12)


def test_isotonic_is_scikit_learns_curve_and_constant_beyond_it():
    [isotonic] = Isotonic().fit(TRAIN, TRAIN)
    curve = IsotonicRegression(out_of_bounds="clip").fit(TRAIN.columns["log_prob"], TRAIN.accuracy)
    np.testing.assert_allclose(isotonic(TEST), curve.predict(TEST.columns["log_prob"]), atol=1e-12)
    far = AnswerEvidence(columns={"log_prob": np.array([-1e3, 0.0])})
    np.testing.assert_array_equal(isotonic(far), isotonic.confidence[[0, -1]])
    errors = [calibration_error(fitted(TEST), TEST.accuracy, n_bins=15) for fitted in (MAXPROB, isotonic)]
    assert errors[1] < 0.25 * errors[0]


def test_logistic_is_the_optimum_that_a_general_minimizer_finds():
    [logistic] = Logistic(inverse_ridge=10.0).fit(TRAIN, TRAIN)
    scalars = np.stack(list(TRAIN.columns.values()), axis=1)
    standardized = (scalars - scalars.mean(0)) / scalars.std(0)
    targets = drawn_inwards(TRAIN.accuracy)

    def objective(w):
        loss = cross_entropy(standardized @ w[:-1] + w[-1], targets)
        return loss + w[:-1] @ w[:-1] / (2 * 10.0 * len(targets))

    found = minimize(objective, np.zeros(scalars.shape[1] + 1), tol=1e-12, options={"gtol": 1e-9})
    expected = expit(standardized @ found.x[:-1] + found.x[-1])
    np.testing.assert_allclose(logistic(TRAIN), expected, atol=1e-5)


def test_every_fitted_one_says_which_images_it_saw():
    for estimator in (Platt(), Isotonic(), Logistic()):
        assert estimator.fit(TRAIN, TEST)[0].fitted_on == FittedOn.images(TRAIN.image_keys)
