"""The report of a sweep: numbers of the plain metrics, the right pairs, and published values that stay apart."""

import csv
import dataclasses
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from evaluation.sweep import PLANTED, SETTINGS, cell_of, sweep
from messages import NOT_THE_SAME_QUESTIONS
from reliabit.confidence.leakage import FittedOn
from reliabit.errors import ReliabitError
from reliabit.evaluation.confidences import compare_confidences
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.paper._measurement import TABLE, measure_models
from reliabit.evaluation.paper._published import PUBLISHED, published
from reliabit.evaluation.prediction_columns import rows_of, scored_answers, with_fitted_on
from reliabit.evaluation.sets import evaluation_sets
from reliabit.metrics import Predictions
from reliabit.metrics.definitions import ACCURACY
from reliabit.metrics.functional import (
    aurc,
    calibration_error,
    coverage_at_risk,
    effective_reliability,
    effective_reliability_threshold,
)
from reliabit.metrics.suite import evaluate, full_suite, headline, headline_suite

MODEL = "qwen2_vl_tiny"


@pytest.fixture(scope="module")
def cells():
    return sweep(PLANTED)


@pytest.fixture(scope="module")
def report(cells):
    # In another order than the report's.
    return paper_report(cells[::-1], SETTINGS)


def plainly(answers, val):
    """The paper's table by the public functions, one at a time."""
    pair = answers.confidence, answers.accuracy
    phi = {
        f"selective/phi_{cost}": effective_reliability(
            *pair, cost, effective_reliability_threshold(val.confidence, val.accuracy, cost)
        )
        for cost in (10, 100)
    }
    return phi | {
        "accuracy/mean": answers.accuracy.mean(),
        "calibration/ece_15": calibration_error(*pair, 15),
        "calibration/confidently_wrong_90pct": ((answers.confidence > 0.9) & (answers.accuracy < 0.5)).mean(),
        "selective/coverage_at_0_5pct_risk": coverage_at_risk(*pair, 0.005)[0],
        "selective/coverage_at_1pct_risk": coverage_at_risk(*pair, 0.01)[0],
        "selective/coverage_at_5pct_risk": coverage_at_risk(*pair, 0.05)[0],
        "selective/aurc": aurc(*pair),
    }


@pytest.mark.parametrize("set_name", ["in_domain", "blur_3", "visual_mix_33", "visual_mix_100"])
@pytest.mark.parametrize("configuration", [("none", 16), ("hqq", 3)])
def test_numbers_are_those_of_the_plain_metrics(cells, report, configuration, set_name):
    cell = next(cell for cell in cells if (cell.quantizer, cell.bits) == configuration)
    reported = cell.predictions.filter(pc.equal(cell.predictions["split"], "test"))
    part = next(part for part in evaluation_sets(reported, SETTINGS) if part.name == set_name)
    for confidence in ("maxprob", "selector"):
        expected = plainly(
            scored_answers(reported, confidence).take(part.rows),
            scored_answers(rows_of(cell.predictions, "val"), confidence),
        )
        row = report.rows.find(MODEL, cell.quantization, confidence, set_name=set_name)
        assert row.measured.questions == len(part.rows)
        assert set(row.measured.values) == {metric.name for metric in TABLE}
        for metric, value in row.measured.values.items():
            assert value.estimate == pytest.approx(expected[metric]), metric
            assert value.low <= value.high


def test_the_lean_suite_says_what_the_full_one_says():
    rng = np.random.default_rng(0)
    confidence, accuracy = rng.random(300).round(2), rng.choice([0, 0.3, 0.6, 0.9, 1], 300)
    thresholds = {10: 0.9, 100: np.inf}
    names = {metric.name for metric in headline()}
    lean = evaluate(Predictions(confidence, accuracy, thresholds), suite=headline_suite())
    assert lean == {
        name: value
        for name, value in evaluate(Predictions(confidence, accuracy, thresholds), suite=full_suite()).items()
        if name in names
    }
    assert set(lean) == names


def test_intervals_and_differences_are_those_of_the_report_of_one_cell(cells, report):
    alone = compare_confidences(cells[2].predictions, SETTINGS)
    for name in ("in_domain", "blur_3", "visual_mix_50"):
        for confidence in ("maxprob", "selector"):
            ours = report.rows.find(MODEL, cells[2].quantization, confidence, set_name=name).measured
            theirs = alone.find(name, confidence)
            assert ours.values == {metric.name: theirs.values[metric.name] for metric in TABLE}
            assert ours.against_maxprob == {metric: theirs.against_maxprob[metric] for metric in ours.against_maxprob}
        assert set(ours.against_maxprob) == {"selective/coverage_at_1pct_risk", "selective/aurc"}


@pytest.mark.medium
def test_cells_are_paired_resample_by_resample(cells):
    twin = cell_of(cells[0].predictions, quantizer="hqq", bits=4)
    (model,) = measure_models([cells[0], twin, *cells[4:5]], SETTINGS)
    accuracy = [
        model.resampled(cell, "maxprob", ACCURACY, set_name="in_domain") for cell in (model.cells[0], *model.cells[1:])
    ]
    assert not accuracy[1].minus(accuracy[0]).replicates.any()
    # Paired, the spread of a difference is that of the questions on which the two differ, and no more.
    paired, apart = accuracy[2].minus(accuracy[0]), accuracy[2].minus_independent(accuracy[0])
    assert paired.replicates.std() < 0.95 * apart.replicates.std()


def test_markdown_puts_widths_in_order_and_published_values_beside(report):
    lines = [line.strip("| \n").split(" | ") for line in report.markdown().splitlines() if line.startswith("|")]
    headings, table = lines[0], lines[2:]
    table = table[: 2 * len(PLANTED)]
    order = [
        ("none", "16"),
        ("hqq", "8"),
        ("hqq", "4"),
        ("mbq", "4"),
        ("hqq", "3"),
        ("mbq", "3"),
        ("hqq", "2"),
        ("mbq", "2"),
    ]
    assert [tuple(line[:2]) for line in table] == [one for one in order for _ in range(2)]
    assert headings[-3:] == [f"published, full size: {name}" for name in ("Acc", "ECE", "C@1%")]
    rows = {(line[0], line[1], line[headings.index("confidence")]): line for line in table}
    assert rows["mbq", "4", "maxprob"][-3:] == ["82.5", "3.7", "41.1"]
    assert rows["mbq", "4", "selector"][-3:] == ["-", "2.2", "45.4"]
    assert rows["hqq", "2", "maxprob"][-3:] == ["-", "-", "-"]
    ours = report.rows.find(MODEL, "hqq 2", "maxprob").measured.values["selective/aurc"].estimate
    assert rows["hqq", "2", "maxprob"][headings.index("AURC")] == f"{100 * ours:.2f}"
    assert "qwen2_vl_tiny is a stand-in for Qwen2-VL-7B" in report.markdown()


def test_a_model_of_another_family_has_no_published_columns(cells):
    other = [dataclasses.replace(cell, config={**cell.config, "model": {"name": "smolvlm"}}) for cell in cells[:1]]
    text = paper_report(other, dataclasses.replace(SETTINGS, resamples=20)).markdown()
    assert "published, full size:" not in text
    assert "a family that the paper does not have" in text


def test_csv_holds_everything_once_and_nothing_published(report):
    lines = list(csv.DictReader(io.StringIO(report.csv())))
    keys = [(line["run"], line["set"], line["confidence"], line["metric"]) for line in lines]
    assert len(set(keys)) == len(keys)
    sets = 1 + 1 + 6
    assert len(lines) == len(PLANTED) * sets * (2 * len(TABLE) + 2)
    row = report.rows.find(MODEL, "mbq 3", "selector", set_name="visual_mix_10").measured
    found = next(line for line in lines if line["run"].endswith("mbq·3b") and line["set"] == "visual_mix_10")
    assert float(found["shifted_share"]) == pytest.approx(0.1)
    found = next(
        line
        for line in lines
        if (line["run"], line["set"], line["metric"])
        == (f"{MODEL}·mbq·3b", "visual_mix_10", "selective/aurc minus maxprob")
    )
    assert float(found["high"]) == pytest.approx(row.against_maxprob["selective/aurc"].high, rel=1e-5)


@pytest.mark.medium
def test_what_is_written_can_be_read(report, tmp_path):
    names = {path.name for path in report.write(tmp_path)}
    assert names == {
        "paper.md",
        "paper.csv",
        "findings.md",
        "findings.json",
        "widths.png",
        "mixtures.qwen2_vl_tiny.png",
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith("png"))


def test_cells_that_cannot_be_compared_are_refused(cells):
    first, second = cells[:2]
    with pytest.raises(ReliabitError, match="no cell to report on"):
        paper_report([], SETTINGS)
    with pytest.raises(ReliabitError, match=r"are both qwen2_vl_tiny, hqq 8; report on one of them"):
        paper_report([second, dataclasses.replace(second, name="again")], SETTINGS)
    fewer = dataclasses.replace(second, predictions=second.predictions.slice(1))
    with pytest.raises(ReliabitError, match=f"hqq·8b and qwen2_vl_tiny·none·16b were {NOT_THE_SAME_QUESTIONS}"):
        paper_report([first, fewer], SETTINGS)
    ids = second.predictions["question_id"].to_pylist()
    swapped = second.predictions.set_column(3, "question_id", pa.array([ids[1], ids[0], *ids[2:]]))
    with pytest.raises(ReliabitError, match=f"{NOT_THE_SAME_QUESTIONS} in the same order"):
        paper_report([first, dataclasses.replace(second, predictions=swapped)], SETTINGS)
    bare = dataclasses.replace(second, predictions=second.predictions.drop_columns(["conf_maxprob"]))
    with pytest.raises(ReliabitError, match="no column conf_maxprob"):
        paper_report([bare], SETTINGS)
    elsewhere = dataclasses.replace(SETTINGS, reported="dev")
    with pytest.raises(ReliabitError, match="no rows of the split dev"):
        paper_report([first], elsewhere)


def test_a_selector_is_not_judged_by_images_that_it_has_seen(cells):
    seen = with_fitted_on(cells[1].predictions, {"selector": FittedOn.images(["made/7"])})
    with pytest.raises(ReliabitError, match="judges selector"):
        paper_report([cells[0], dataclasses.replace(cells[1], predictions=seen)], SETTINGS)


def test_other_models_may_be_asked_other_questions(cells):
    other = cell_of(cells[0].predictions.slice(3), quantizer="none", bits=16, model="idefics3_tiny")
    report = paper_report([cells[0], other], dataclasses.replace(SETTINGS, resamples=20))
    assert report.rows.models == ["qwen2_vl_tiny", "idefics3_tiny"]
    counts = [report.rows.find(model, "none", "maxprob").measured.questions for model in report.rows.models]
    assert counts[0] - counts[1] == 3


@pytest.mark.parametrize(
    ("family", "quantizer", "bits", "confidence", "expected"),
    [
        ("idefics3", "none", 16, "maxprob", (79.3, 5.1, 23.6)),
        ("idefics3", "hqq", 3, "maxprob", (64.0, 7.9, 0.1)),
        ("qwen2_vl", "hqq", 8, "maxprob", (82.9, 3.5, 42.7)),
        ("qwen2_vl", "hqq", 3, "selector", (None, 4.3, 37.1)),
        ("idefics3", "mbq", 3, "selector", (None, 1.4, 19.7)),
    ],
)
def test_published_values_are_those_of_the_tables(family, quantizer, bits, confidence, expected):
    found = published(family, quantizer=quantizer, bits=bits, confidence=confidence)
    assert (found.accuracy, found.ece, found.coverage_at_1pct_risk) == expected


def test_published_values_show_the_trends_that_the_tables_show():
    assert len(PUBLISHED) == 2 * (7 + 6)
    assert published("qwen2_vl", quantizer="hqq", bits=8, confidence="selector") is None
    assert published(None, quantizer="none", bits=16, confidence="maxprob") is None
    by_key = {(row.model, row.quantizer, row.bits, row.confidence): row for row in PUBLISHED}
    for (model, quantizer, bits, confidence), row in by_key.items():
        if confidence == "selector":
            assert row.coverage_at_1pct_risk > by_key[model, quantizer, bits, "maxprob"].coverage_at_1pct_risk
            assert row.ece < by_key[model, quantizer, bits, "maxprob"].ece
