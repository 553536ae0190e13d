"""Confidences on sets of rows: the right rows, paired differences, and nobody judged by what he has seen."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest

from reliabit.confidence.leakage import FittedOn
from reliabit.errors import ReliabitError
from reliabit.evaluation.confidences import DIFFERENCES, compare_confidences
from reliabit.evaluation.figures import mixture_figure, severity_figure
from reliabit.evaluation.prediction_columns import fitted_on_of, rows_of, scored_answers, seeds_of, with_fitted_on
from reliabit.evaluation.report import build_report
from reliabit.evaluation.sets import evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.trust_figures import overlay_figure
from reliabit.metrics.functional import aurc, coverage_at_risk

SETTINGS = EvaluationConfig(
    risks=[0.01, 0.05],
    costs=[10, 100],
    n_bins=[15],
    certified_risks=[0.2],
    delta=0.1,
    slices=[],
    reported="test",
    mixtures={"visual": ["blur_1", "blur_3"], "absent": ["fog_1"]},
    resamples=100,
    level=0.95,
    seed=0,
)
QUESTIONS = 4


def rows(rng, *, split, shift, images, first=0, noise=0.0):
    found = []
    for image in range(first, first + images):
        for number in range(QUESTIONS):
            truth = rng.beta(4, 1)
            found.append(
                {
                    "source": "made",
                    "split": split,
                    "shift": shift,
                    "question_id": f"{image}-{number}",
                    "image_id": str(image),
                    "accuracy": float(rng.random() < truth - noise),
                    "conf_maxprob": float(np.clip(truth + rng.normal(0, 0.2), 0, 1)),
                    "conf_selector": float(truth),
                    "seed_selector_1": float(np.clip(truth + rng.normal(0, 0.05), 0, 1)),
                }
            )
    return found


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    made = rows(rng, split="test", shift="none", images=120)
    made += rows(rng, split="test", shift="blur_1", images=20, noise=0.1)
    made += rows(rng, split="test", shift="blur_3", images=20, noise=0.4)
    made += rows(rng, split="val", shift="none", images=60, first=200)
    made += rows(rng, split="cal", shift="none", images=60, first=300)
    return pa.Table.from_pylist(made)


@pytest.fixture(scope="module")
def report(table):
    return compare_confidences(table, SETTINGS)


def test_sets_hold_the_right_rows(table):
    reported = pa.concat_tables([rows_of(table, "test", shift=shift) for shift in ("none", "blur_1", "blur_3")])
    sets = {part.name: part for part in evaluation_sets(reported, SETTINGS)}
    assert list(sets)[:3] == ["in_domain", "blur_1", "blur_3"]
    assert [len(sets[name].rows) for name in list(sets)[:3]] == [480, 80, 80]
    mixtures = [part for part in sets.values() if part.kind == "mixture"]
    assert [part.name for part in mixtures] == [f"visual_mix_{share}" for share in (0, 10, 33, 50, 67, 100)]
    assert len({len(part.rows) for part in mixtures}) == 1
    for part in mixtures:
        taken = reported.take(part.rows)
        shifted = np.array(taken["shift"].to_pylist()) != "none"
        assert shifted.sum() == pytest.approx(part.shifted_share * len(part.rows), abs=0.5)
        images = np.array(taken["image_id"].to_pylist())
        assert not set(images[shifted]) & set(images[~shifted])


def test_numbers_are_those_of_the_plain_metrics(table, report):
    for shift in ("none", "blur_3"):
        part = rows_of(table, "test", shift=shift)
        for name in ("maxprob", "selector"):
            found = report.find("in_domain" if shift == "none" else shift, name).values
            answers = scored_answers(part, name)
            assert found["selective/aurc"].estimate == pytest.approx(aurc(answers.confidence, answers.accuracy))
            coverage, _ = coverage_at_risk(answers.confidence, answers.accuracy, 0.05)
            assert found["selective/coverage_at_5pct_risk"].estimate == pytest.approx(coverage)


def test_differences_are_paired_and_find_the_better_confidence(report):
    found = report.find("in_domain", "selector")
    difference = found.against_maxprob["selective/aurc"]
    assert difference.high < 0, "this confidence is the very probability of being right"
    alone = [report.find("in_domain", name).values["selective/aurc"] for name in ("maxprob", "selector")]
    unpaired = np.hypot(*(interval.high - interval.low for interval in alone))
    assert difference.high - difference.low < unpaired
    assert report.find("in_domain", "maxprob").against_maxprob == {}


def test_names_tell_confidence_set_and_difference(report):
    recorded = report.recorded()
    assert {
        "selective/aurc.selector",
        "selective/aurc.selector.blur_3",
        "selective/aurc.selector_minus_maxprob.visual_mix_50.low",
        "selective/aurc.selector_seeds_sd",
        "accuracy/mean.maxprob.visual_mix_100",
    } <= set(recorded)
    assert not any(character in name for name in recorded for character in "@%[")
    spread = [recorded["selective/aurc.selector_seeds_mean"], recorded["selective/aurc.selector_seeds_sd"]]
    assert spread[1] > 0
    assert spread[0] == pytest.approx(recorded["selective/aurc.selector"], abs=5 * spread[1])


def test_seeds_of_one_estimator_are_not_those_of_another(table):
    column = table["seed_selector_1"]
    both = table.append_column("conf_selector_transfer", column).append_column("seed_selector_transfer_1", column)
    assert seeds_of(both, "selector") == ["seed_selector_1"]
    assert seeds_of(both, "selector_transfer") == ["seed_selector_transfer_1"]


def test_a_shifted_image_that_was_seen_is_found_as_well(table):
    """Another data set may share images with the questions that trained an estimator."""
    moved = table.set_column(
        table.column_names.index("source"),
        "source",
        pa.array(["other" if shift == "blur_3" else "made" for shift in table["shift"].to_pylist()]),
    )
    seen = with_fitted_on(moved, {"selector": FittedOn.images(["other/7"])})
    with pytest.raises(ReliabitError, match="such as other/7"):
        compare_confidences(seen, SETTINGS)


def test_tables_hold_every_set_and_confidence(report):
    text = report.markdown()
    assert "| visual_mix_33 | selector |" in text
    lines = list(csv.DictReader(io.StringIO(report.csv())))
    assert {line["set"] for line in lines} == {row.set_name for row in report.measured}
    assert sum("minus maxprob" in line["metric"] for line in lines) == len(DIFFERENCES) * len(report.measured) / 2


def test_figures_are_drawn_where_there_is_something_to_show(table, report):
    assert severity_figure(report, title="t") is not None
    assert mixture_figure(report, title="t") is not None
    plain = rows_of(table, "test")
    assert (
        len(overlay_figure({name: scored_answers(plain, name) for name in ("maxprob", "selector")}, title="t").axes)
        == 1
    )
    only = compare_confidences(table.filter(pa.compute.equal(table["shift"], "none")), SETTINGS)
    assert severity_figure(only, title="t") is None
    assert mixture_figure(only, title="t") is None


def test_an_estimator_is_not_judged_by_images_that_it_has_seen(table):
    seen = with_fitted_on(table, {"selector": FittedOn.images(["made/205"], ["made/7"])})
    assert fitted_on_of(seen)["selector"] == FittedOn.images(["made/205"], ["made/7"])
    with pytest.raises(ReliabitError, match=r"split test, which judges selector \(such as made/7\) chose"):
        build_report(seen, SETTINGS)
    certified = with_fitted_on(table, {"selector": FittedOn.images(["made/301"])})
    with pytest.raises(ReliabitError, match="split cal, which judges selector"):
        build_report(certified, SETTINGS)
    fine = with_fitted_on(table, {"selector": FittedOn.images(["made/1000"], ["made/205"])})
    assert build_report(fine, SETTINGS).confidences.find("in_domain", "selector")


def test_the_report_certifies_every_confidence(table):
    recorded = build_report(table, SETTINGS).recorded()
    assert recorded["certified/coverage_at_20pct_risk.selector"] > 0
    assert "certified/coverage_at_20pct_risk" in recorded
