from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliabit.confidence.sampling import self_consistency, semantic_entropy
from reliabit.errors import ReliabitError


def entropy(*shares):
    return -sum(share * log(share) for share in shares)


def test_self_consistency_counts_normalized_agreement():
    assert self_consistency("The dog.", ["a dog", "dog", "cat", "Dog!", "dogs"]) == 0.6


def test_answers_that_normalization_leaves_nothing_of_agree_only_as_the_same_text():
    assert self_consistency("", ["the", "", "?", "dog"]) == 0.25
    assert self_consistency("The", ["the", "a"]) == 0
    samples = ["", "the", "the", "?"]
    assert semantic_entropy(samples, [0.0] * 4, weighting="count") == pytest.approx(entropy(0.25, 0.5, 0.25), rel=1e-14)


def test_entropy_of_counts_by_hand():
    samples = ["dog", "a dog", "cat", "Dog.", "bird"]
    assert semantic_entropy(samples, [0.0] * 5, weighting="count") == pytest.approx(entropy(0.6, 0.2, 0.2), rel=1e-14)


def test_entropy_of_probabilities_by_hand():
    # "dog" was drawn twice and is one sequence: dog .4, a dog .1, cat .3; shares .5/.8 and .3/.8.
    samples, log_probs = ["dog", "dog", "a dog", "cat"], [log(0.4), log(0.4), log(0.1), log(0.3)]
    found = semantic_entropy(samples, log_probs, weighting="probability")
    assert found == pytest.approx(entropy(0.625, 0.375), rel=1e-14)


def test_improbable_answers_do_not_underflow():
    found = semantic_entropy(["dog", "cat"], [-2000.0, -2000.0 - log(3)], weighting="probability")
    assert found == pytest.approx(entropy(0.75, 0.25), rel=1e-12)


@given(st.lists(st.tuples(st.sampled_from(["2", "two", "cat", "a cat", "x"]), st.floats(-50, 0)), min_size=1))
def test_entropy_lies_between_0_and_log_m_whatever_the_order(drawn):
    samples, log_probs = (list(values) for values in zip(*drawn, strict=True))
    for weighting in ("probability", "count"):
        found = semantic_entropy(samples, log_probs, weighting=weighting)
        assert 0 <= found <= log(len(samples)) + 1e-12
        assert 0 < exp(-found) <= 1
        turned = semantic_entropy(samples[::-1], log_probs[::-1], weighting=weighting)
        assert turned == pytest.approx(found, abs=1e-12)


def test_bad_samples_are_refused():
    with pytest.raises(ReliabitError, match="no sampled answers"):
        self_consistency("dog", [])
    with pytest.raises(ReliabitError, match="2 sampled answers have 1"):
        semantic_entropy(["a", "b"], [0.0], weighting="probability")
    with pytest.raises(ReliabitError, match="not finite"):
        semantic_entropy(["a"], [float("nan")], weighting="probability")
    with pytest.raises(ReliabitError, match="choose probability or count"):
        semantic_entropy(["a"], [0.0], weighting="mean")
