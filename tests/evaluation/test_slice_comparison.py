"""Every slice before and after: what was planted is named, in a table, a file, a figure and a sentence."""

import csv
from dataclasses import replace
from io import StringIO

import numpy as np
import pyarrow as pa
import pytest

from messages import NOT_THE_SAME_QUESTIONS
from registry.measured import SETTINGS, table
from reliabit.errors import ReliabitError
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.slice_comparison import HEADINGS, compare_slice_rates
from reliabit.evaluation.slice_figure import slice_figure
from reliabit.evaluation.slice_rates import binned

MEASURED = EvaluationConfig(
    risks=[0.05],
    costs=[1],
    n_bins=[15],
    certified_risks=[0.1],
    delta=0.1,
    slices=["question_type", "answer_type"],
    reported="test",
    mixtures={},
    resamples=200,
    level=0.95,
    seed=0,
)
NAMES = ("tiny·none·s0", "tiny·hqq·4b·s0", "tiny·hqq·2b·s0")
COVERAGE, WRONG = "certified/coverage_at_10pct_risk", "calibration/confidently_wrong_90pct"
ASKED = {"test": 300, "val": 100, "cal": 300}


def compared(tables, **given):
    return compare_slice_rates(
        dict(zip(NAMES, tables, strict=False)), MEASURED, SETTINGS, baseline=NAMES[0], comparisons=3, **given
    )


@pytest.fixture(scope="module")
def tables():
    return [table(images=ASKED), table(images=ASKED), table(images=ASKED, lost=["color"])]


@pytest.fixture(scope="module")
def found(tables):
    return compared(tables)


def test_what_a_cell_harms_is_named_with_its_rates(found, tables):
    worst = found.worst(NAMES[2], "accuracy/mean")
    assert (worst.column, worst.value, worst.worse, worst.hit_harder) == ("question_type", "color", True, True)
    rows = [row for row in tables[0].to_pylist() if row["split"] == "test" and row["question_type"] == "color"]
    assert worst.before == pytest.approx(np.mean([row["accuracy"] for row in rows]))
    assert worst.after == 0
    said = found.sentence(NAMES[2])
    assert said.startswith("hqq·2b: worst hit of 3 slices: accuracy of question_type color ")
    assert f"{100 * worst.before:.1f} to 0.0 %" in said
    assert said.endswith("question_type color surely more than all other questions.")
    assert found.verdict == said


def test_a_cell_that_answers_alike_harms_nothing(found, tables):
    assert found.worst(NAMES[1], "accuracy/mean") is None
    assert found.sentence(NAMES[1]) == "hqq·4b: none of 3 slices is told to be worse than under none."
    same = compared(tables[:2])
    assert same.verdict == "No harm to any of 3 slices can be told, under any of 1 configurations, against none."
    assert not any(one.worse or one.better or one.hit_harder for one in same.changes)


def test_each_side_abstains_by_its_own_certificate(found, tables):
    """The certificate is of `cal`, which loses nothing, so neither side's coverage changes."""
    assert found.metrics == ["accuracy/mean", WRONG, COVERAGE]
    shares = [one for one in found.changes if one.metric == COVERAGE]
    assert {one.change.estimate for one in shares} == {0.0}
    assert shares[0].before > 0
    blind = table(images=ASKED, skill=0.0, accuracy=0.5)
    other = compared([tables[0], blind])
    assert other.uncertified == (NAMES[1],)
    coverage = other.worst(NAMES[1], COVERAGE)
    assert (coverage.after, coverage.worse) == (0.0, True)
    assert "none is for hqq·4b" in other.markdown()


def test_without_a_threshold_coverage_is_left_out(tables):
    blind = table(images=ASKED, skill=0.0, accuracy=0.5)
    assert compared([blind, blind]).metrics == ["accuracy/mean", WRONG]
    assert (
        "No threshold is certified for 10 % risk, so coverage is not compared." in compared([blind, blind]).markdown()
    )
    of_test = [one.filter(pa.compute.equal(one["split"], "test")) for one in tables]
    assert COVERAGE not in compared(of_test).metrics


def test_the_file_has_every_slice_and_reads_as_it_is_documented(found):
    rows = list(csv.DictReader(StringIO(found.csv())))
    assert tuple(rows[0]) == HEADINGS
    # Two cells, three rates, all questions and three kinds; everything has one type of answer, which is no slice.
    assert len(rows) == 2 * 3 * (1 + 3)
    told = [(row["configuration"], row["metric"], row["value"]) for row in rows if row["told"] == "worse"]
    assert (NAMES[2], "accuracy/mean", "color") in told
    assert {row["comparisons"] for row in rows} == {"24"}
    for row in rows:
        assert float(row["change"]) == pytest.approx(float(row["after"]) - float(row["before"]), abs=2e-6)
        assert (row["excess"] == "") == (row["column"] == "all")


def test_the_table_begins_with_the_worst_of_each_cell(found):
    text = found.markdown()
    first, every = text.index("## Worst hit"), text.index("## Every slice")
    assert first < text.index("| hqq·2b | accuracy | question_type color |") < every
    assert "All 24 intervals of changes hold together at 95 %" in text


def test_columns_from_elsewhere_are_slices_too(tables):
    rows = tables[0].filter(pa.compute.equal(tables[0]["split"], "test")).num_rows
    found = compared(tables, further={"image_brightness": ["dark", "bright"] * (rows // 2)})
    assert {one.value for one in found.changes if one.column == "image_brightness"} == {"dark", "bright"}


def test_a_figure_is_drawn_of_it(found, tmp_path):
    figure = slice_figure(found, title="tiny.made")
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["accuracy", "confidently wrong", "answered"]
    assert labels[0][0] == "all questions (600)"
    assert labels[0][1] == "question_type color (200)"
    [path] = write_figures({"slice_changes.png": figure}, tmp_path)
    assert path.stat().st_size > 10_000


def test_a_column_that_is_not_there_and_other_questions_are_refused(tables):
    with pytest.raises(ReliabitError, match="evaluation.slices names country; the predictions table has source, split"):
        compare_slice_rates(
            {"none": tables[0]}, replace(MEASURED, slices=["country"]), SETTINGS, baseline="none", comparisons=1
        )
    with pytest.raises(ReliabitError, match=NOT_THE_SAME_QUESTIONS):
        compared([tables[0], table(images=ASKED | {"test": 299})])


def test_many_numbers_are_cut_into_thirds():
    ages = [str(age) for age in range(90)]
    found = binned([*ages, ""])
    assert [found.count(name) for name in dict.fromkeys(found)] == [30, 30, 30, 1]
    assert list(dict.fromkeys(found)) == ["low (to 29.7)", "medium", "high (above 59.3)", "none"]
    names = [f"name {number}" for number in range(90)]
    assert binned(names) == names
    assert binned(ages[:20]) == ages[:20]
