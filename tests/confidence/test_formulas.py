import numpy as np
import pytest

from reliabit.confidence.estimator import ESTIMATORS, Fitting
from reliabit.confidence.examples import EXTRA_SCALARS, AnswerEvidence
from reliabit.confidence.settings import ConfidenceConfig
from reliabit.errors import ReliabitError
from reliabit.inference.settings import SamplingSettings

# An answer of three tokens with the probabilities .9, .8, 1; the first token had .9, .06, .04.
ANSWER = AnswerEvidence(
    columns={
        "log_prob": np.log([0.72]),
        "n_tokens": np.array([3.0]),
        "first_token_prob": np.array([0.9]),
        "min_token_prob": np.array([0.8]),
        "first_token_entropy": np.array([-(0.9 * np.log(0.9) + 0.06 * np.log(0.06) + 0.04 * np.log(0.04))]),
        "first_token_margin": np.array([0.84]),
        "p_true": np.array([1 + 1e-12]),
        "self_consistency": np.array([0.7]),
        "semantic_entropy": np.log([4.0]),
        "mean_entropy": np.array([0.2]),
        "blank_mean_entropy": np.array([1.4]),
        "blank_log_prob": np.log([0.01]),
    }
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maxprob", 0.72),
        ("length_normalized", 0.72 ** (1 / 3)),
        ("first_token", 0.9),
        ("min_token", 0.8),
        ("entropy", 0.9**0.9 * 0.06**0.06 * 0.04**0.04),
        ("margin", 0.84),
        ("p_true", 1.0),
        ("self_consistency", 0.7),
        ("semantic_entropy", 0.25),
        # 0.2 - 0.5 * (1.4 - 0.2), negated.
        ("image_information", 1 / (1 + np.exp(-0.4))),
    ],
)
def test_scalars_by_hand(name, expected):
    [scalar] = ESTIMATORS[name].fit(None, None)
    confidence = scalar(ANSWER)
    assert confidence.dtype == np.float64
    np.testing.assert_allclose(confidence, [expected], rtol=1e-14)
    assert confidence.max() <= 1


KINDS = {
    "free": ("maxprob", "length_normalized", "first_token", "min_token", "entropy", "margin"),
    "told by engines": ("top_entropy",),
    "extra passes": ("p_true", "self_consistency", "semantic_entropy", "image_information"),
    "fitted": ("platt", "isotonic", "logistic", "selector", "selector_transfer"),
}


def test_every_name_is_an_estimator_that_says_what_it_needs_and_costs():
    assert set(ESTIMATORS) == {name for names in KINDS.values() for name in names}
    known = {name: ESTIMATORS[name] for name in ESTIMATORS}
    assert {name: estimator.name for name, estimator in known.items()} == {name: name for name in known}
    assert {name for name in known if known[name].trained} == set(KINDS["fitted"])
    assert {name for name in known if set(known[name].columns) & set(EXTRA_SCALARS)} == {
        *KINDS["extra passes"],
        *KINDS["told by engines"],
    }
    assert {name for name in known if known[name].features} == {"selector", "selector_transfer"}
    assert {name for name in known if known[name].unquantized} == {"selector_transfer"}
    drawn = {"p_true": None, "self_consistency": SamplingSettings(7, 1.0), "semantic_entropy": SamplingSettings(7, 1.0)}
    costs = {name: known[name].fit(fitting=Fitting(settings=drawn[name]))[0].extra_forwards for name in drawn}
    assert costs == {"p_true": 1, "self_consistency": 7, "semantic_entropy": 7}
    assert known["image_information"].fit()[0].extra_forwards == 1
    assert all(known[name].fit()[0].extra_forwards == 0 for name in (*KINDS["free"], *KINDS["told by engines"]))


def image_information(**options):
    config = ConfidenceConfig(name="", estimators=["maxprob"], options={"image_information": options})
    settings = config.settings_of("image_information")
    [estimator] = ESTIMATORS["image_information"].fit(fitting=Fitting(settings=settings))
    return estimator


def test_the_images_information_of_surprisals_by_hand():
    # A token costs -log(.72) / 3 with the image and -log(.01) / 3 before a blank one.
    seen, blank = -np.log(0.72) / 3, -np.log(0.01) / 3
    found = image_information(uncertainty="surprisal", weight=2.0)(ANSWER)
    np.testing.assert_allclose(found, [1 / (1 + np.exp(seen - 2 * (blank - seen)))], rtol=1e-14)


def test_without_weight_an_image_only_counts_by_what_uncertainty_it_left():
    columns = {name: np.repeat(values, 3) for name, values in ANSWER.columns.items()}
    columns |= {"mean_entropy": np.array([0.1, 0.5, 0.3]), "blank_mean_entropy": np.array([9.0, 0.0, 1.0])}
    evidence = AnswerEvidence(columns=columns)
    assert image_information(weight=0.0)(evidence).argsort().tolist() == [1, 2, 0]
    blind = AnswerEvidence(columns={name: value for name, value in columns.items() if name != "blank_log_prob"})
    with pytest.raises(
        ReliabitError, match="needs the column blank_log_prob, .*; answer again with image_information in"
    ):
        image_information()(blind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"confidence.options.image_information.weight=-1.0 must be at least 0, and finite"),
        ({"weight": float("inf")}, "weight=inf must be at least 0, and finite"),
        ({"uncertainty": "variance"}, "confidence.options.image_information.uncertainty"),
        ({"mask": "core"}, "confidence.options.image_information"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ReliabitError, match=message):
        image_information(**options)


def test_unknown_names():
    with pytest.raises(ReliabitError, match="no confidence estimator 'maxprop'; choose one of .*maxprob, .* selector"):
        ESTIMATORS["maxprop"]
