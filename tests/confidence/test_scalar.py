import numpy as np
import pytest

from reliabit.confidence.catalogue import NAMES, EstimatorSettings, estimators
from reliabit.confidence.examples import Evidence
from reliabit.confidence.scalar import FREE, p_true, self_consistency, semantic_entropy
from reliabit.errors import ReliabitError

# An answer of three tokens with the probabilities .9, .8, 1; the first token had .9, .06, .04.
ANSWER = Evidence(
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
    }
)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        (FREE["maxprob"], 0.72),
        (FREE["length_normalized"], 0.72 ** (1 / 3)),
        (FREE["first_token"], 0.9),
        (FREE["min_token"], 0.8),
        (FREE["entropy"], 0.9**0.9 * 0.06**0.06 * 0.04**0.04),
        (FREE["margin"], 0.84),
        (p_true(), 1.0),
        (self_consistency(samples=10), 0.7),
        (semantic_entropy(samples=10), 0.25),
    ],
)
def test_scalars_by_hand(scalar, expected):
    confidence = scalar.fit(None, None)(ANSWER)
    assert confidence.dtype == np.float64
    np.testing.assert_allclose(confidence, [expected], rtol=1e-14)
    assert confidence.max() <= 1


def test_every_name_makes_an_estimator_that_says_what_it_costs():
    made = estimators([name for names in NAMES.values() for name in names], settings=EstimatorSettings(samples=7))
    assert [estimator.name for estimator in made] == [name for names in NAMES.values() for name in names]
    assert {estimator.name for estimator in made if estimator.fitted} == set(NAMES["fitted"])
    costs = {estimator.name: estimator.extra_forwards for estimator in made if estimator.extra_forwards}
    assert costs == {"p_true": 1, "self_consistency": 7, "semantic_entropy": 7}


def test_unknown_and_repeated_names():
    with pytest.raises(ReliabitError, match=r"no confidence 'maxprop'; choose among free: maxprob, .* selector"):
        estimators(["maxprop"], settings=EstimatorSettings())
    with pytest.raises(ReliabitError, match="twice"):
        estimators(["maxprob", "maxprob"], settings=EstimatorSettings())


def test_the_configuration_offers_every_estimator():
    from reliabit.confidence.catalogue import NAMES
    from reliabit.config import ESTIMATORS

    assert set(ESTIMATORS) == {name for names in NAMES.values() for name in names} | {"selector_transfer"}
