"""Changes of slices: as other code computes them, corrected for their number, and none where nothing changed."""

import numpy as np
import pytest
from scipy.stats import binomtest

from reliabit.errors import ReliabitError
from reliabit.metrics.slice_changes import ALL, SMALL, large_slices, slice_changes

ACCURACY, WRONG = "accuracy/mean", "calibration/confidently_wrong_90pct"
KINDS = ("count", "color", "where")


def made(rng, *, images=200, per_image=2, lost=(), share=0.0, flips=0.0):
    """Answers before and after: any may change by `flips` either way, and of the kinds `lost` a share turns wrong."""
    names = [f"i{number // per_image}" for number in range(images * per_image)]
    kinds = rng.choice(KINDS, size=len(names))
    before = (rng.random(len(names)) < 0.7).astype(float)
    after = np.where(rng.random(len(names)) < flips, rng.permutation(before), before)
    after[np.isin(kinds, lost) & (rng.random(len(names)) < share)] = 0.0
    return names, kinds.tolist(), before, after


def compared(names, kinds, before, after, **settings):
    found = slice_changes(
        {"none": {ACCURACY: before}, "int2": {ACCURACY: after}}, names, {"kind": kinds}, baseline="none", **settings
    )
    return {one.value: one for one in found}


def test_rates_changes_and_excesses_are_the_plain_means():
    names, kinds, before, after = made(np.random.default_rng(0), lost=["count"], share=0.4, flips=0.2)
    found = compared(names, kinds, before, after)
    assert list(found) == ["all questions", "color", "count", "where"]
    for kind in KINDS:
        own, one = np.array(kinds) == kind, found[kind]
        change = (after - before)[own].mean()
        assert (one.n_questions, one.n_images) == (own.sum(), len(set(np.array(names)[own])))
        assert [one.before, one.after] == pytest.approx([before[own].mean(), after[own].mean()])
        assert one.change.estimate == pytest.approx(change)
        assert one.excess.estimate == pytest.approx(change - (after - before)[~own].mean())
        assert one.change.low <= one.change.estimate <= one.change.high
    assert found["all questions"].change.estimate == pytest.approx((after - before).mean())
    assert found["all questions"].excess is None


def test_the_loss_of_single_questions_ends_where_clopper_and_pearson_say():
    """One question an image, none won: the lower end is exact, at the level that Bonferroni asks for."""
    rng = np.random.default_rng(1)
    names, kinds, before, after = made(rng, images=300, per_image=1, lost=["where"], share=0.3)
    for one in compared(names, kinds, before, after).values():
        lost = round(-one.change.estimate * one.n_questions)
        exact = binomtest(lost, one.n_questions).proportion_ci(confidence_level=1 - 0.05 / 4)
        assert one.change.low == pytest.approx(-exact.high, abs=1e-6)
        assert one.change.comparisons == 4
        assert one.change.level == pytest.approx(1 - 0.05 / 4)


def test_harm_is_told_and_named_where_it_was_planted():
    names, kinds, before, after = made(np.random.default_rng(2), images=400, lost=["where"], share=0.3, flips=0.05)
    found = compared(names, kinds, before, after)
    assert [value for value, one in found.items() if one.worse] == ["all questions", "where"]
    assert [value for value, one in found.items() if one.hit_harder] == ["where"]
    assert found["where"].change.p_value < 0.001
    assert found["color"].change.p_value > 0.05


def test_a_rate_that_is_better_lower_is_harmed_by_a_rise():
    names, kinds, before, after = made(np.random.default_rng(2), images=400, lost=["where"], share=0.3)
    found = slice_changes(
        {"none": {WRONG: 1 - before}, "int2": {WRONG: 1 - after}}, names, {"kind": kinds}, baseline="none"
    )
    [where] = [one for one in found if one.value == "where"]
    assert where.harm == pytest.approx(where.after - where.before)
    assert (where.worse, where.hit_harder, where.better) == (True, True, False)


def test_an_interval_leaves_zero_out_just_where_its_p_value_says_so():
    rng = np.random.default_rng(3)
    for share in (0.02, 0.05, 0.08):
        found = compared(*made(rng, images=150, lost=["where", "color"], share=share), level=0.9)
        smallest = min(one.change.p_value for one in found.values())
        # The first step of Holm's procedure is Bonferroni's.
        assert any(one.worse or one.better for one in found.values()) == (smallest < 0.1)


def test_holm_never_lowers_a_p_value_and_keeps_their_order():
    names, kinds, before, after = made(np.random.default_rng(4), lost=["where"], share=0.1, flips=0.1)
    own = {one.value: one.change.p_value for one in compared(names, kinds, before, after).values()}
    alone = compared(names, ["same"] * len(kinds), before, after)["all questions"].change
    assert alone.comparisons == 1
    assert own["all questions"] >= alone.p_value


def test_nothing_is_found_where_nothing_changed():
    names, kinds, before, _ = made(np.random.default_rng(5))
    for one in compared(names, kinds, before, before.copy()).values():
        assert (one.change.estimate, one.change.p_value, one.harm) == (0.0, 1.0, 0.0)
        assert (one.worse, one.hit_harder, one.better) == (False, False, False)
        assert one.change.low < 0 < one.change.high


def test_the_order_of_questions_does_not_matter():
    names, kinds, before, after = made(np.random.default_rng(6), lost=["count"], share=0.4, flips=0.1)
    order = np.argsort(kinds, kind="stable")
    there = compared(names, kinds, before, after)
    again = compared([names[row] for row in order], [kinds[row] for row in order], before[order], after[order])
    for value, one in there.items():
        other = again[value].change
        assert [one.change.low, one.change.high, one.change.p_value] == pytest.approx(
            [other.low, other.high, other.p_value], abs=1e-9
        )


def false_findings(tries, *, seed):
    """In how many tries anything is told, where what is right changes by chance alone."""
    rng = np.random.default_rng(seed)
    told = {"change": 0, "excess": 0}
    for _ in range(tries):
        # Answers of an image change together, which is what counting questions one by one overlooks.
        kinds = rng.choice(KINDS, size=360).tolist()
        flips = np.repeat(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=120), 3)
        before, after = (flips < 0).astype(float), (flips > 0).astype(float)
        found = compared(np.repeat(np.arange(120), 3).tolist(), kinds, before, after)
        told["change"] += any(one.worse or one.better for one in found.values())
        told["excess"] += any(one.hit_harder for one in found.values())
    return told


def test_chance_is_rarely_told_for_a_finding():
    # Five or more of 25 tries at 5 % would be a chance of 1 %.
    assert max(false_findings(25, seed=0).values()) < 5


@pytest.mark.slow
def test_chance_is_told_for_a_finding_no_more_often_than_promised():
    tries = 600
    found = false_findings(tries, seed=1)
    for count in found.values():
        assert binomtest(count, tries, 0.05, alternative="greater").pvalue > 0.001, found


def test_small_slices_are_taken_together():
    values = ["a"] * 50 + ["b"] * 20 + ["c"] * 15 + ["d"] * 5
    slices, left_out = large_slices(values, smallest=30)
    assert ({name: int(mask.sum()) for name, mask in slices.items()}, left_out) == ({"a": 50, SMALL: 40}, 0)
    slices, left_out = large_slices(values, smallest=45)
    assert (list(slices), left_out) == (["a"], 40)


def test_a_column_of_one_value_has_no_slices():
    found = slice_changes(
        {"none": {ACCURACY: np.ones(60)}, "int2": {ACCURACY: np.ones(60)}},
        range(60),
        {"source": ["made"] * 60},
        baseline="none",
    )
    assert [(one.column, one.excess) for one in found] == [(ALL, None)]


def test_what_cannot_be_paired_is_refused():
    rates = {"none": {ACCURACY: np.ones(4)}, "int2": {ACCURACY: np.ones(3)}}
    with pytest.raises(ReliabitError, match="baseline is 'bf16'; it must be one of none, int2"):
        slice_changes(rates, range(4), {}, baseline="bf16")
    with pytest.raises(ReliabitError, match="int2 has 3 values and image_ids has 4"):
        slice_changes(rates, range(4), {}, baseline="none")
    with pytest.raises(ReliabitError, match=r"columns\['kind'\] has 3 values and image_ids has 4"):
        slice_changes({"none": rates["none"]}, range(4), {"kind": "abc"}, baseline="none")
