"""Pareto fronts: against a brute-force reference, properties of standings, and points measured from predictions."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm

from messages import NOT_THE_SAME_QUESTIONS
from registry.measured import IMAGES, SETTINGS, configuration, costs, table
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import LATENCY, SPEED, STORED
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, Measurements, Reliability, measure_reliability
from reliabit.evaluation.pareto import level_of_each, pareto_front, places
from reliabit.evaluation.pareto_figures import pareto_figure
from reliabit.evaluation.pareto_report import pareto_csv, pareto_markdown
from reliabit.evaluation.prediction_columns import rows_of, scored_answers
from reliabit.evaluation.resampled import Resampled, resampled_mean
from reliabit.metrics import Predictions, Suite, cluster_bootstrap, definitions, evaluate, full_suite
from reliabit.metrics.bootstrap import draw_counts
from reliabit.metrics.cluster_mean import cluster_mean

METRICS = (ACCURACY, AUGRC)
SIGNS = {ACCURACY: 1, AUGRC: -1}


@st.composite
def some_points(draw, largest=7):
    """Few whole values, so that ties are common, and resamples of every shape."""
    number = draw(st.integers(1, largest))
    whole = st.integers(0, 3)
    points = []
    for index in range(number):
        values = draw(st.lists(whole, min_size=2, max_size=2))
        noise = draw(arrays.arrays(np.int64, (2, 4), elements=st.integers(-3, 3)))
        qualities = {
            metric: Resampled(float(value), value + deviations.astype(float))
            for metric, value, deviations in zip(METRICS, values, noise, strict=True)
        }
        points.append(Reliability(str(index), {STORED: 1.0 + draw(whole), LATENCY: 1 + 0.04 * draw(whole)}, qualities))
    return points


def beats(one, other):
    """Domination by point values, one objective after the other."""
    pairs = [(other.costs[cost], one.costs[cost]) for cost in one.costs]
    pairs += [
        (SIGNS[metric] * one.qualities[metric].estimate, SIGNS[metric] * other.qualities[metric].estimate)
        for metric in METRICS
    ]
    return all(ours >= theirs for ours, theirs in pairs) and any(ours > theirs for ours, theirs in pairs)


def surely_beats(one, other, *, level):
    """The same with bounds of a normal distribution in place of estimates, from scipy."""
    gains = [other.costs[cost] - one.costs[cost] for cost in one.costs]
    for metric in METRICS:
        ours, theirs = one.qualities[metric], other.qualities[metric]
        spread = np.sqrt(
            np.mean((ours.replicates - theirs.replicates - np.mean(ours.replicates - theirs.replicates)) ** 2)
        )
        gains.append(SIGNS[metric] * (ours.estimate - theirs.estimate) - norm.ppf(level) * spread)
    return min(gains) >= 0 and max(gains) > 0


def standing_of(found):
    return {name: place.standing for name, place in found.items()}


@given(some_points())
def test_standings_are_those_of_brute_force(points):
    found = places(points, level=0.9)
    for point in points:
        rivals = {other.name for other in points if beats(other, point)}
        sure = {other.name for other in points if surely_beats(other, point, level=0.9)}
        place = found[point.name]
        assert place.standing == ("dominated" if sure else "undecided" if rivals else "front")
        assert set(place.by) == (sure or rivals)
    assert "front" in standing_of(found).values()


@given(some_points(), st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(points, random):
    shuffled = random.sample(points, len(points))
    assert standing_of(places(points, level=0.9)) == standing_of(places(shuffled, level=0.9))


@given(some_points(), st.sampled_from([{}, {LATENCY: 0.05}, {LATENCY: 0.1}]))
def test_dominated_points_change_nothing_about_the_others(points, steps):
    found = places(points, level=0.9, steps=steps)
    thrown_out = [point for point in points if found[point.name].standing == "dominated"]
    for one in thrown_out:
        without = places([point for point in points if point is not one], level=0.9, steps=steps)
        assert standing_of(without) == {name: place.standing for name, place in found.items() if name != one.name}


@given(some_points(), st.floats(0, 1))
def test_surer_data_only_decide_what_was_undecided(points, factor):
    def shrunk(value):
        return Resampled(value.estimate, value.estimate + factor * (value.replicates - value.estimate))

    before = places(points, level=0.9)
    surer = [
        replace(point, qualities={name: shrunk(value) for name, value in point.qualities.items()}) for point in points
    ]
    for name, place in places(surer, level=0.9).items():
        assert place.standing == before[name].standing or before[name].standing == "undecided"


@given(some_points())
def test_certain_values_leave_nothing_undecided(points):
    certain = [
        replace(
            point,
            qualities={
                name: Resampled(value.estimate, np.full(4, value.estimate)) for name, value in point.qualities.items()
            },
        )
        for point in points
    ]
    assert "undecided" not in standing_of(places(certain, level=0.9)).values()


def test_a_worse_point_that_is_uncertain_stays_and_a_surely_worse_one_goes():
    def point(name, mean, spread):
        return Reliability(name, {STORED: 4.0 if name == "best" else 5.0}, {ACCURACY: Resampled(mean, mean + spread)})

    noise = np.random.default_rng(0).normal(0, 0.01, 1000)
    points = [point("best", 0.80, noise), point("apart", 0.79, -noise), point("paired", 0.79, noise)]
    # The same loss: within the noise where resamples are independent, sure where both move together.
    assert standing_of(places(points, level=0.95)) == {"best": "front", "apart": "undecided", "paired": "dominated"}


def test_the_level_is_corrected_for_the_number_of_rivals():
    assert level_of_each(0.95, points=2) == pytest.approx(0.95)
    assert level_of_each(0.95, points=11) == pytest.approx(0.995)
    assert level_of_each(0.95, points=1) == pytest.approx(0.95)


def test_latencies_count_in_steps():
    def point(name, latency, stored):
        return Reliability(name, {STORED: stored, LATENCY: latency}, {ACCURACY: Resampled(0.5, np.full(3, 0.5))})

    points = [point("small", 1.01, 1.0), point("big", 1.0, 2.0), point("bigger and faster", 0.5, 3.0)]
    exact = standing_of(places(points, level=0.9))
    assert set(exact.values()) == {"front"}
    assert standing_of(places(points, level=0.9, steps={LATENCY: 0.1})) == exact | {"big": "dominated"}


@pytest.mark.parametrize(
    ("points", "level", "message"),
    [
        ([], 0.9, "there is no configuration"),
        ([Reliability("a", {STORED: 1.0}, {})] * 2, 0.9, "two configurations have the same name"),
        ([Reliability("a", {STORED: 1.0}, {}), Reliability("b", {}, {})], 0.9, "b and a differ in which cost is known"),
        ([Reliability("a", {STORED: 0.0}, {})], 0.9, "a has an objective that is no number, or a cost of nothing"),
        ([Reliability("a", {}, {ACCURACY: Resampled(np.nan, np.zeros(2))})], 0.9, "is no number"),
        ([Reliability("a", {}, {ACCURACY: Resampled(0.5, np.array([0.5, np.nan]))})], 0.9, "resamples leave undefined"),
        ([Reliability("a", {STORED: 1.0}, {})], 0.5, "level is 0.5"),
    ],
)
def test_unusable_points_are_refused(points, level, message):
    with pytest.raises(ReliabitError, match=message):
        places(points, level=level)


@pytest.fixture(scope="module")
def tables():
    return {
        "none": table(accuracy=0.9),
        "4 bits": table(accuracy=0.895),
        "2 bits": table(accuracy=0.6),
        "lesser": table(accuracy=0.5),
    }


@pytest.fixture(scope="module")
def efficiency():
    return {
        "none": costs(stored=4, resident=4),
        "4 bits": costs(stored=2, resident=3),
        "2 bits": costs(stored=1, resident=2),
        "lesser": costs(stored=1.5, resident=2),
    }


def cells_of(tables, efficiency):
    return [configuration(name, one, efficiency=efficiency[name]) for name, one in tables.items()]


@pytest.fixture(scope="module")
def pareto(tables, efficiency):
    return pareto_front(cells_of(tables, efficiency), Measurements(SETTINGS, comparisons=4))


def test_qualities_are_those_of_the_plain_metrics(tables, efficiency):
    measured = measure_reliability(cells_of(tables, efficiency), SETTINGS, comparisons=4)
    found = {one.name: one for one in measured}
    for name, one in tables.items():
        test = scored_answers(rows_of(one, "test"), "maxprob")
        plain = evaluate(Predictions(test.confidence, test.accuracy), suite=full_suite(risks=(0.1,)))
        qualities = found[name].qualities
        assert {metric: qualities[metric].estimate for metric in qualities if metric in plain} == {
            metric: plain[metric] for metric in (ACCURACY, AUGRC, "selective/coverage_at_10pct_risk")
        }
        certificate = found[name].certificate(0.1)
        accepted = qualities["certified/coverage_at_10pct_risk"]
        assert accepted.estimate == pytest.approx(certificate.coverage)
        assert [one.comparisons for one in found[name].certificates] == [4, 4]
        # A share of independent questions spreads as the binomial distribution does.
        expected = np.sqrt(certificate.coverage * (1 - certificate.coverage) / certificate.n_cal)
        assert accepted.replicates.std() == pytest.approx(expected, rel=0.2, abs=1e-12)


def test_means_are_resampled_as_the_metrics_are(tables):
    one, other = (scored_answers(rows_of(tables[name], "test"), "maxprob") for name in ("none", "2 bits"))
    drawn = cluster_bootstrap(
        {name: Predictions(found.confidence, found.accuracy) for name, found in (("one", one), ("other", other))},
        one.images,
        suite=Suite((definitions.ACCURACY,)),
        n_resamples=50,
    )
    mean = resampled_mean(one.accuracy - other.accuracy, one.images, n_resamples=50, seed=0)
    expected = drawn.replicates["one"][ACCURACY] - drawn.replicates["other"][ACCURACY]
    np.testing.assert_allclose(mean.replicates, expected, atol=1e-12)
    assert mean.estimate == pytest.approx(drawn.estimates["one"][ACCURACY] - drawn.estimates["other"][ACCURACY])


def test_the_mean_of_a_slice_is_that_of_its_copied_rows():
    rng = np.random.default_rng(0)
    values, images, rows = rng.random(60), rng.integers(0, 20, 60), rng.random(60) < 0.4
    found = resampled_mean(values, images.tolist(), rows=rows, n_resamples=9, seed=3)
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images.tolist()))}
    for drawn, counts in zip(found.replicates, draw_counts(len(numbers), range(9), 3), strict=True):
        copies = np.repeat(values[rows], [counts[numbers[image]] for image in images[rows]])
        assert drawn == pytest.approx(copies.mean())


def test_measured_points_stand_where_they_were_planted(pareto):
    standing = standing_of(pareto.places)
    # Far worse than a smaller one; far worse than the others and smaller.
    assert (standing["lesser"], pareto.places["lesser"].by) == ("dominated", ("2 bits",))
    assert standing["2 bits"] == "front"
    assert standing["4 bits"] == "front"
    assert [point.name for point in pareto.points] == ["none", "4 bits", "lesser", "2 bits"]


def test_the_same_answers_dominate_surely_at_no_number_of_questions(efficiency):
    """That no difference was seen does not say that there is none; a bootstrap without one has no standard error."""
    for images in ({"test": 20}, IMAGES):
        answers = table(accuracy=0.9, images=images)
        twins = cells_of({"none": answers, "4 bits": answers}, efficiency)
        found = pareto_front(twins, Measurements(SETTINGS, comparisons=2))
        assert found.points[0].qualities[ACCURACY].minus(found.points[1].qualities[ACCURACY]).replicates.std() == 0
        assert (found.places["none"].standing, found.places["none"].by) == ("undecided", ("4 bits",))


def test_the_table_shows_what_the_points_hold(pareto):
    text = pareto_markdown(pareto)
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][:3] == ["configuration", "standing", "dominated by"]
    rows = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    assert rows["lesser"]["dominated by"] == "2 bits"
    assert rows["4 bits"]["stored MiB"] == "2.00"
    accuracy = pareto.points[1].qualities[ACCURACY].estimate
    assert rows["4 bits"]["accuracy %"].startswith(f"{100 * accuracy:.2f} [")
    assert "Certificates hold for the best of 4" in text
    written = list(csv.DictReader(io.StringIO(pareto_csv({"here": pareto}))))
    assert len(written) == 4 * 7
    (found,) = [row for row in written if (row["configuration"], row["objective"]) == ("4 bits", ACCURACY)]
    assert float(found["value"]) == pytest.approx(accuracy, rel=1e-5)
    assert float(found["low"]) <= float(found["value"]) <= float(found["high"])


def test_the_figure_holds_every_point_once_a_panel(pareto):
    figure = pareto_figure({"here": pareto, "there": pareto})
    assert len(figure.axes) == 6
    for axes in figure.axes:
        drawn = [
            tuple(point) for line in axes.lines if line.get_marker() in ("o", "D", "X") for point in line.get_xydata()
        ]
        assert len(drawn) == 4
    figure.savefig(io.BytesIO(), format="png")


def test_without_a_calibration_split_certified_coverage_is_no_objective(efficiency):
    images = {"test": IMAGES["test"]}
    tables = {name: table(images=images, accuracy=0.8) for name in ("none", "4 bits")}
    found = pareto_front(cells_of(tables, efficiency), Measurements(SETTINGS, comparisons=2))
    assert set(found.points[0].qualities) == {ACCURACY, AUGRC, "selective/coverage_at_10pct_risk"}
    assert pareto_figure({"here": found}).axes[2].get_ylabel() == "C@10%, %"


def test_what_cannot_be_measured_is_refused(tables, efficiency):
    lacking = {key: value for key, value in efficiency["4 bits"].items() if key != SPEED}
    with pytest.raises(ReliabitError, match="4 bits has no efficiency/samples_per_second"):
        pareto_front(cells_of(tables, {**efficiency, "4 bits": lacking}), Measurements(SETTINGS, comparisons=4))
    cells = cells_of(tables, efficiency)
    with pytest.raises(ReliabitError, match="none has no confidence selector"):
        measure_reliability(cells, replace(SETTINGS, confidence="selector"), comparisons=1)
    with pytest.raises(ReliabitError, match=f"other and none were {NOT_THE_SAME_QUESTIONS}"):
        measure_reliability([*cells, configuration("other", tables["none"].slice(1))], SETTINGS, comparisons=1)


@given(st.integers(0, 2**16), st.floats(0.01, 0.3), st.sampled_from([None, 3, 30]))
def test_sure_domination_is_transitive(seed, spread, images):
    rng = np.random.default_rng(seed)

    def accuracy(value):
        mean = images and cluster_mean(np.full(images, value), range(images))
        return Resampled(value, value + rng.normal(0, spread, 20), mean)

    points = [
        Reliability(str(index), {STORED: 1.0 + index}, {ACCURACY: accuracy(value)})
        for index, value in enumerate(np.sort(rng.random(3))[::-1])
    ]
    found = places(points, level=0.8)
    assume("1" in found["2"].by and found["1"].standing == "dominated" and found["2"].standing == "dominated")
    assert "0" in found["2"].by
