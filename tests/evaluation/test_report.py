"""The report is a pure function of a predictions table, and says what independent code says of the same numbers."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from messages import NOT_THE_SAME_QUESTIONS
from reliabit.errors import ReliabitError
from reliabit.evaluation.comparison import compare, compare_slices
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.figures import report_figures
from reliabit.evaluation.report import build_report
from reliabit.evaluation.settings import EvaluationConfig

SETTINGS = EvaluationConfig(
    risks=[0.01, 0.05],
    costs=[1, 10],
    n_bins=[15],
    certified_risks=[0.05, 0.2],
    delta=0.1,
    slices=["question_type"],
    reported="test",
    mixtures={},
    resamples=200,
    level=0.95,
    seed=0,
)


def table_of(*, noise: float, splits=("val", "cal", "test"), images: int = 300, seed: int = 0) -> pa.Table:
    """Answers that are right with a probability that their confidence tells, more or less."""
    rng = np.random.default_rng(seed)
    rows = []
    for split in splits:
        for number in range(images * 3):
            confidence = rng.beta(4, 1)
            right = rng.random() < np.clip(confidence - noise, 0, 1)
            rows.append(
                {
                    "source": "made",
                    "split": split,
                    "shift": "none",
                    "question_id": f"{split}{number}",
                    "image_id": f"{split}{number // 3}",
                    "question_type": "color" if number % 3 else "shape",
                    "conf_maxprob": float(confidence),
                    "accuracy": float(right),
                }
            )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def table():
    return table_of(noise=0.0)


@pytest.fixture(scope="module")
def report(table):
    return build_report(table, SETTINGS)


def test_metrics_are_those_of_the_reported_split(table, report):
    test = [row for row in table.to_pylist() if row["split"] == "test"]
    confidence, accuracy = np.array([row["conf_maxprob"] for row in test]), np.array([row["accuracy"] for row in test])
    assert report.metrics["accuracy/questions"] == len(test)
    assert report.metrics["accuracy/mean"] == pytest.approx(accuracy.mean())
    assert report.metrics["selective/auroc_half"] == pytest.approx(roc_auc_score(accuracy, confidence))
    order = np.argsort(-confidence)
    risk = np.cumsum(1 - accuracy[order]) / np.arange(1, len(test) + 1)
    within = np.flatnonzero(risk <= 0.05)
    expected = (within[-1] + 1) / len(test) if len(within) else 0
    assert report.metrics["selective/coverage_at_5pct_risk"] == pytest.approx(expected)


def test_intervals_hold_their_estimates(report):
    for name, interval in report.intervals.items():
        if not math.isnan(interval.low):
            assert interval.low <= interval.high, name
    accuracy = report.intervals["accuracy/mean"]
    # Three questions an image, answered independently here: close to the binomial interval.
    half = 1.96 * math.sqrt(accuracy.estimate * (1 - accuracy.estimate) / 900)
    assert (accuracy.high - accuracy.low) / 2 == pytest.approx(half, rel=0.35)


def test_certificates_use_one_question_an_image(report):
    certificates = report.certificates["maxprob"]
    assert [certificate.risk for certificate in certificates] == [0.05, 0.2]
    assert {certificate.n_cal for certificate in certificates} == {300}
    assert certificates[1].coverage > 0.2
    assert report.recorded()["certified/coverage_at_20pct_risk"] == certificates[1].coverage


def test_without_the_other_splits_nothing_is_certified(table):
    only_test = build_report(table_of(noise=0.0, splits=("test",)), SETTINGS)
    assert only_test.certificates == {"maxprob": []}
    assert not any("phi" in name for name in only_test.metrics)
    drawn = report_figures(table_of(noise=0.0, splits=("test",)), only_test, split="test", title="t")
    assert "effective_reliability.png" not in drawn


def test_slices_name_the_worst(report):
    gap = report.slices.gap("this", "question_type", "accuracy/mean")
    assert {gap.best, gap.worst} == {"color", "shape"}
    assert gap.gap.estimate >= 0


def test_the_same_table_gives_the_same_report(table, report):
    again = build_report(table, SETTINGS)
    assert again.recorded() == pytest.approx(report.recorded(), nan_ok=True)


def test_what_is_written_is_json_and_pictures(table, report, tmp_path):
    drawn = report_figures(table, report, split="test", title="t")
    names = {path.name for path in [*report.write(tmp_path), *write_figures(drawn, tmp_path)]}
    assert names == {
        "metrics.json",
        "report.json",
        "confidences.md",
        "confidences.csv",
        "risk_coverage.csv",
        "reliability_diagram.png",
        "risk_coverage.png",
        "confidence_histogram.png",
        "effective_reliability.png",
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["accuracy/mean"] == pytest.approx(report.metrics["accuracy/mean"])
    for name in [name for name in names if name.endswith(".png")]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_worse_configuration_is_told_from_the_baseline(table):
    comparison = compare({"base": table, "worse": table_of(noise=0.3)}, SETTINGS, baseline="base")
    difference = comparison.differences["worse"]["accuracy/mean"]
    assert difference.high < 0
    assert comparison.markdown().count("|") > 10
    same = compare({"base": table, "same": table}, SETTINGS, baseline="base").differences["same"]
    assert {(d.low, d.high) for d in same.values()} == {(0.0, 0.0)}


def test_slices_tell_what_quantization_changes_about_the_gap(table):
    """The worse configuration fails on colors alone, so that its gap must grow by what colors lost."""
    rows = table.to_pylist()
    worse = [{**row, "accuracy": 0.0 if row["question_type"] == "color" else row["accuracy"]} for row in rows]
    text = compare_slices({"base": table, "worse": pa.Table.from_pylist(worse)}, SETTINGS, baseline="base")
    (line,) = [line for line in text.splitlines() if line.startswith("| worse | question_type | accuracy/mean")]
    assert "| shape | color |" in line
    assert line.endswith("* |")


def test_tables_about_other_questions_cannot_be_paired(table):
    with pytest.raises(ReliabitError, match=NOT_THE_SAME_QUESTIONS):
        compare({"base": table, "other": table_of(noise=0.0, images=200)}, SETTINGS, baseline="base")


def test_a_missing_split_or_column_is_named(table):
    with pytest.raises(ReliabitError, match="no rows of the split test"):
        build_report(table_of(noise=0.0, splits=("val",)), SETTINGS)
    with pytest.raises(ReliabitError, match="evaluation.slices names question_type; the predictions table has"):
        build_report(table.drop_columns(["question_type"]), SETTINGS)


@pytest.mark.parametrize("column", ["source", "image_id", "shift"])
def test_tables_of_equal_ids_but_other_images_are_not_paired(table, column):
    """Two sources may well number their questions alike."""
    if column == "shift":
        changed = pa.array(["blur_3" if split == "test" else "none" for split in table["split"].to_pylist()])
    else:
        changed = pa.array([f"other-{value}" for value in table[column].to_pylist()])
    other = table.set_column(table.column_names.index(column), column, changed)
    assert other["question_id"].equals(table["question_id"])
    for comparison in (compare, compare_slices):
        with pytest.raises(ReliabitError, match=f"other and base were {NOT_THE_SAME_QUESTIONS}"):
            comparison({"base": table, "other": other}, SETTINGS, baseline="base")
