"""VQA accuracy and the three normalisers against the tables of the reliability specification."""

import pytest

from reliabit.errors import ReliabitError
from reliabit.metrics import functional as fn
from reliabit.metrics.functional.answers import CONTRACTIONS

VARIANTS = ("official", "evalai", "reliable_vqa")
SAME = {
    "Yes.": "yes",
    "The dog": "dog",
    "two": "2",
    "None": "0",
    "1,000": "1000",
    "1,000 people": "1000 people",
    "3.5": "3.5",
    "$3.50": "$3.50",
    "U.S.": "us",
    "St. Louis": "st louis",
    "dont": "don't",
    "isnt it": "isn't it",
    "Im ok": "im ok",
    "10:30 am": "10:30 am",
    "teddy bear!!": "teddy bear",
    "a man and a woman": "man and woman",
    "black-and-white": "black and white",
    "t-shirt": "t shirt",
    "red, white": "red white",
    "red/white": "red white",
    "n/a": "n",
    "one-way": "1 way",
    "the": "",
    "a": "",
    "...": "",
    "": "",
    "-5": "5",
    "100%": "100%",
    "blue\nsky": "blue sky",
    "blue\tsky": "blue sky",
}
# text, then official, evalai, reliable_vqa
DIFFERENT = {
    "red,white": ("red white", "redwhite", "red white"),
    "it's": ("it's", "it 's", "it's"),
    "man's hat": ("man's hat", "man 's hat", "man's hat"),
    "2 1/2": ("2 1 2", "2 1 2", "2 1/2"),
}
EXPECTED = {text: (result,) * 3 for text, result in SAME.items()} | DIFFERENT


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("text", EXPECTED)
def test_normalize_answer(text, variant):
    assert fn.normalize_answer(text, variant=variant) == EXPECTED[text][VARIANTS.index(variant)]


def test_contractions_have_the_reachable_entries_of_the_official_table():
    # 120 less two that map to themselves and four with a capital, which lower-cased text cannot reach
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["somebody'd"] == "somebodyd"
    assert not {"im", "its", "lets", "shes", "id", "ill", "wed"} & set(CONTRACTIONS)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(10, [0, 3 / 10, 3 / 5, 9 / 10, 1, 1]), (9, [0, 8 / 27, 16 / 27, 8 / 9, 1]), (3, [0, 2 / 9, 4 / 9, 2 / 3])],
)
def test_soft_accuracy_table(n, expected):
    assert [fn.accuracy_from_matches(k, n) for k in range(len(expected))] == pytest.approx(expected, abs=1e-15)


def test_a_single_annotator_agrees_with_nobody_else():
    assert [fn.accuracy_from_matches(k, 1) for k in (0, 1)] == [0, 0]
    assert fn.vqa_accuracy("yes", []) == 0


def test_closed_form_is_the_mean_over_left_out_annotators():
    for n in range(1, 13):
        for k in range(n + 1):
            agrees = [True] * k + [False] * (n - k)
            left_out = [min(1, sum(agrees[:j] + agrees[j + 1 :]) / 3) for j in range(n)]
            assert fn.accuracy_from_matches(k, n) == pytest.approx(sum(left_out) / n, abs=1e-15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_sides_are_normalised(variant):
    assert fn.vqa_accuracy("the dog", ["a dog"] * 3 + ["dog"] * 2 + ["cat"] * 5, variant=variant) == 1.0
    for prediction in ("Yes", "yes."):
        assert fn.vqa_accuracy(prediction, ["yes"] * 10, variant=variant) == 1.0
    assert fn.vqa_accuracy("two", ["2"] * 10, variant=variant) == 1.0


VANISHING = ("", "The", "?", "A", "a", "the", "an", "...")


@pytest.mark.parametrize("paper_compat", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("reference", VANISHING)
@pytest.mark.parametrize("prediction", VANISHING)
def test_what_normalization_leaves_nothing_of_scores_only_as_the_same_string(
    prediction, reference, variant, paper_compat
):
    assert fn.normalize_answer(prediction) == fn.normalize_answer(reference) == ""
    found = fn.vqa_accuracy(prediction, [reference] * 10, variant=variant, paper_compat=paper_compat)
    assert found == (1.0 if prediction == reference else 0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_that_vanish_are_counted_one_by_one(variant):
    # Of ten, two are the very string: each of them is agreed with by one other, all others by two.
    answers = ["A"] * 2 + ["the"] * 3 + [""] * 3 + ["cat"] * 2
    assert fn.vqa_accuracy("A", answers, variant=variant) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10, abs=1e-15)
    assert fn.vqa_accuracy("an", answers, variant=variant) == 0
    assert fn.vqa_accuracy("cat", answers, variant=variant) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10, abs=1e-15)


def test_published_evaluators_skip_normalisation_of_unanimous_references():
    for prediction, reference in [("Yes", "yes"), ("yes.", "yes"), ("two", "2")]:
        assert fn.vqa_accuracy(prediction, [reference] * 10, paper_compat=True) == 0
    assert fn.vqa_accuracy("Yes", ["yes"] * 9 + ["no"], paper_compat=True) == 1.0
    assert fn.vqa_accuracy("yes\n", ["yes"] * 10, paper_compat=True) == 1.0


def test_bad_answers_are_named():
    with pytest.raises(ReliabitError, match="answers is one string"):
        fn.vqa_accuracy("yes", "yes")
    with pytest.raises(ReliabitError, match="variant is 'lmms'; it must be one of official, evalai, reliable_vqa"):
        fn.normalize_answer("yes", variant="lmms")
    with pytest.raises(ReliabitError, match="matches is 4 of 3"):
        fn.accuracy_from_matches(4, 3)
