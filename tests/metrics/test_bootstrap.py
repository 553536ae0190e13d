"""Bootstrap by image and slices: equal to the plain computation on materialised resamples, paired, and corrected."""

import numpy as np
import pytest
from scipy.stats import norm

from reliabit.errors import ReliabitError
from reliabit.metrics import Predictions, Suite, cluster_bootstrap, evaluate, full_suite, higher_is_better, slice_report
from reliabit.metrics.bootstrap import draw_counts, number_images
from reliabit.metrics.definitions import AURC, ece
from reliabit.metrics.intervals import correct_p_values, interval, two_sided_p_value

THRESHOLDS = {1: 0.2, 10: 0.6}


def draw(seed, n, *, levels=25, skill=1.0, soft=True):
    generator = np.random.default_rng(seed)
    confidence = generator.integers(0, levels, n) / (levels - 1)
    right = generator.random(n) < 0.3 + 0.6 * skill * confidence
    partly = generator.choice([0.3, 0.6, 0.9, 1.0], n) if soft else 1.0
    return Predictions(confidence, right * partly, THRESHOLDS)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(9).integers(0, 120, 300)


@pytest.mark.parametrize("arbitrary", [False, True])
def test_weighted_sums_equal_the_metrics_of_the_copied_rows(images, arbitrary):
    data = draw(0, 300)
    if arbitrary:  # accuracies that no unit makes whole
        data = Predictions(data.confidence, np.random.default_rng(1).random(300), THRESHOLDS)
    result = cluster_bootstrap({"x": data}, images, n_resamples=7, seed=3)
    clusters, n_clusters = number_images(images)
    counts = draw_counts(n_clusters, range(7), 3)
    for index in range(7):
        rows = np.repeat(np.arange(300), counts[index][clusters])
        expected = evaluate(Predictions(data.confidence[rows], data.accuracy[rows], THRESHOLDS))
        del expected["selective/tie_share"]  # copies of one row are no ties
        drawn = {name: result.replicates["x"][name][index] for name in expected}
        assert drawn == pytest.approx(expected, abs=1e-10, nan_ok=True)
    assert result.estimates["x"] == pytest.approx(evaluate(data), rel=0, abs=0, nan_ok=True)


def test_a_resample_may_lack_the_surest_predictions_or_all_wrong_ones():
    data = Predictions([0.9, 0.5, 0.4], [1, 0, 1], {10: 0.45})
    result = cluster_bootstrap({"x": data}, ["a", "b", "c"], n_resamples=200)
    means = result.replicates["x"]["accuracy/mean"]
    assert set(np.round(means, 6)) == {0, 0.333333, 0.666667, 1}
    assert np.isnan(result.replicates["x"]["selective/auroc_half"][means == 1]).all()
    assert (result.replicates["x"]["selective/aurc"][means == 1] == 0).all()


def test_results_depend_on_neither_threads_nor_company(images):
    first, second = draw(0, 300), draw(1, 300)
    alone = cluster_bootstrap({"x": first}, images, n_resamples=50)
    together = cluster_bootstrap({"y": second, "x": first}, images, n_resamples=50, workers=3)
    for name, values in alone.replicates["x"].items():
        np.testing.assert_array_equal(values, together.replicates["x"][name])


def test_intervals_cover():
    covered = 0
    for seed in range(60):
        data = draw(seed, 200, soft=False)
        found = cluster_bootstrap({"x": data}, np.arange(200), n_resamples=200, suite=full_suite(n_bins=(10,)))
        ends = found.interval("x", "accuracy/mean")
        covered += ends.low <= 0.6 <= ends.high
    assert covered >= 51


def test_clusters_widen_intervals():
    data = draw(0, 100)
    repeated = Predictions(np.repeat(data.confidence, 5), np.repeat(data.accuracy, 5))
    by_image = cluster_bootstrap({"x": repeated}, np.repeat(np.arange(100), 5), n_resamples=300)
    by_question = cluster_bootstrap({"x": repeated}, np.arange(500), n_resamples=300)
    widths = [
        ends.high - ends.low for ends in (boot.interval("x", "accuracy/mean") for boot in (by_image, by_question))
    ]
    assert widths[0] > 1.8 * widths[1]


def test_differences_are_paired_and_corrected():
    base = draw(0, 600)
    worse = Predictions(base.confidence, np.where(np.arange(600) % 8 == 0, 0, base.accuracy))
    slightly = Predictions(base.confidence, np.where(np.arange(600) % 50 == 0, 0, base.accuracy))
    same = Predictions(base.confidence, base.accuracy)
    configurations = {"bf16": base, "int3": worse, "int4": slightly, "int8": same}
    found = cluster_bootstrap(configurations, np.arange(600), n_resamples=400)
    metric = "accuracy/mean"
    plain = found.compare("bf16", metric, correction="none")
    holm = found.compare("bf16", metric)
    bonferroni = found.compare("bf16", metric, correction="bonferroni")
    assert list(holm) == ["int3", "int4", "int8"]
    assert holm["int3"].high < 0
    assert (holm["int8"].estimate, holm["int8"].low, holm["int8"].high, holm["int8"].p_value) == (0, 0, 0, 1)
    for name in holm:
        assert plain[name].p_value <= holm[name].p_value <= bonferroni[name].p_value
        assert bonferroni[name].p_value == min(1, 3 * plain[name].p_value)
        assert plain[name].low >= bonferroni[name].low
        assert holm[name].level == pytest.approx(1 - 0.05 / 3)
    unpaired = found.interval("bf16", metric)
    assert plain["int4"].high - plain["int4"].low < (unpaired.high - unpaired.low) / 2
    assert {one.comparisons for one in found.compare("bf16", "selective/aurc").values()} == {3}


def test_tails_that_resamples_cannot_resolve_are_no_narrower_than_normal_ones_wherever_an_interval_is_made():
    base, noise = draw(0, 400), np.random.default_rng(5)
    others = {
        f"cell {number}": Predictions(base.confidence, np.where(noise.random(400) < 0.05, 0, base.accuracy))
        for number in range(12)
    }
    configurations = {"base": base, **others}
    found = cluster_bootstrap(configurations, np.arange(400), n_resamples=100)
    metric = "accuracy/mean"
    for name, difference in found.compare("base", metric).items():
        drawn = found.replicates[name][metric] - found.replicates["base"][metric]
        reach = norm.ppf(1 - 0.025 / 12) * drawn.std(ddof=1)
        assert difference.high >= difference.estimate + reach - 1e-12
        assert difference.low <= difference.estimate - reach + 1e-12
    estimate, alone = found.estimates["base"][metric], found.replicates["base"][metric]
    rare = found.interval("base", metric, level=0.999)
    assert rare.low <= estimate - norm.ppf(0.9995) * alone.std(ddof=1) + 1e-12
    # A single slice is the whole, and its interval no other one.
    kinds = {"kind": ["a"] * 400}
    report = slice_report({"base": base}, np.arange(400), kinds, n_resamples=100, level=0.999)
    (whole,) = [one.interval for one in report.values if one.metric == metric]
    assert (whole.low, whole.high) == pytest.approx((rare.low, rare.high))


def test_corrections_by_hand():
    assert correct_p_values([0.04, 0.01, 0.03], "holm") == pytest.approx([0.06, 0.03, 0.06])
    assert correct_p_values([0.5, 0.9], "bonferroni") == [1, 1]
    assert correct_p_values([], "holm") == []
    assert two_sided_p_value(np.array([-1.0, 1.0])) == 1
    assert np.isnan(interval(0.5, np.array([np.nan, np.nan, 1])).low)


def test_directions_of_metrics():
    expected = {
        name: name.startswith(("accuracy", "selective/coverage", "selective/prr", "selective/au", "selective/phi"))
        and not name.endswith(("aurc", "aurc_mean", "augrc", "threshold_risk"))
        for name in evaluate(draw(0, 50))
    }
    assert {name: higher_is_better(name) for name in expected} == expected


def test_a_suite_without_probabilities():
    data = Predictions([3.0, -1.0], [1, 0])
    values = evaluate(data, suite=full_suite(calibration=False, risks=(0.005,)))
    assert values["selective/coverage_at_0_5pct_risk"] == 0.5
    assert not any(name.startswith("calibration/") for name in values)
    with pytest.raises(ReliabitError, match=r"confidence\[0\] is 3; a calibration metric"):
        evaluate(data)


def test_thresholds_are_fitted_on_one_split_and_applied_to_another():
    validation, test = ([0.85, 0.75, 0.65, 0.55], [1, 1, 0, 1]), ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    thresholds = full_suite().fit_thresholds(*validation)
    values = evaluate(Predictions(*test, thresholds))
    assert [values[f"selective/phi_{cost}"] for cost in (1, 10, 100)] == [0, -2.25, -24.75]
    assert values["selective/phi_10_threshold_coverage"] == values["selective/phi_10_threshold_risk"] == 0.5
    assert values["selective/phi_10_without_abstention"] == -4.5


def test_slices_name_the_worst_and_how_it_changes(images):
    kinds = np.array(["yes/no", "number", "other"])[np.arange(300) % 3]
    base = draw(0, 300, soft=False)
    hurt = np.where((kinds == "number") & (np.arange(300) % 2 == 0), 0, base.accuracy)
    configurations = {"bf16": base, "int3": Predictions(base.confidence, hurt, THRESHOLDS)}
    columns = {"answer_type": kinds, "source": ["a"] * 299 + ["b"]}
    report = slice_report(configurations, images, columns, baseline="bf16", n_resamples=200, seed=1)
    gap = report.gap("int3", "answer_type", "accuracy/mean")
    assert gap.worst == "number"
    assert gap.gap.low > 0
    assert gap.gap.level == pytest.approx(1 - 0.05 / 3)
    assert gap.change is not None
    assert gap.change.low > 0
    assert report.gap("bf16", "answer_type", "accuracy/mean").change is None
    by_key = {(v.configuration, v.column, v.value, v.metric): v for v in report.values}
    number = by_key["int3", "answer_type", "number", "accuracy/mean"]
    assert number.interval.estimate == pytest.approx(hurt[kinds == "number"].mean())
    assert number.n_questions == 100
    assert number.n_images == len(np.unique(images[kinds == "number"]))
    assert number.interval.low < number.interval.estimate < number.interval.high
    aurc = report.gap("int3", "answer_type", "selective/aurc")
    assert aurc.gap.estimate == pytest.approx(
        by_key["int3", "answer_type", aurc.worst, "selective/aurc"].interval.estimate
        - by_key["int3", "answer_type", aurc.best, "selective/aurc"].interval.estimate
    )
    assert ("int3", "source", "b", "accuracy/mean") in by_key
    with pytest.raises(ReliabitError, match="fewer than two slices"):
        report.gap("int3", "source", "accuracy/mean")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: cluster_bootstrap({"x": d}, [1, 2]),
            r"configurations\['x'\] has 50 predictions and image_ids has 2",
        ),
        (lambda d: cluster_bootstrap({"x": d}, []), "image_ids is empty"),
        (lambda d: cluster_bootstrap({"x": d}, range(50), n_resamples=0), "n_resamples is 0"),
        (lambda d: slice_report({"x": d}, range(50), {"k": [1]}), r"columns\['k'\] has 1 values and image_ids has 50"),
        (lambda d: slice_report({"x": d}, range(50), {}, baseline="y"), "baseline is 'y'; it must be one of x"),
        (
            lambda d: cluster_bootstrap({"x": d}, range(50), n_resamples=2).compare("y", "accuracy/mean"),
            "baseline is 'y'; it must be one of x",
        ),
        (
            lambda d: cluster_bootstrap({"x": d}, range(50), n_resamples=2).interval("x", "accuracy/mean", level=1),
            "level is 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ReliabitError, match=message):
        call(draw(0, 50))


def test_what_is_wanted_alone_is_the_same_as_among_all(images):
    data, wanted = {"x": draw(0, 300), "y": draw(1, 300)}, frozenset({"selective/aurc", "calibration/ece_15"})
    every = cluster_bootstrap(data, images, n_resamples=20)
    some = cluster_bootstrap(data, images, n_resamples=20, suite=Suite((AURC, ece(15))))
    for name in data:
        assert some.replicates[name].keys() == some.estimates[name].keys() == wanted
        for metric in wanted:
            np.testing.assert_array_equal(some.replicates[name][metric], every.replicates[name][metric])
            assert some.estimates[name][metric] == every.estimates[name][metric]
