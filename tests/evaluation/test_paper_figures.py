"""Figures of a sweep show every line they should, where it was measured."""

import dataclasses

import pytest

from evaluation.sweep import PLANTED, SETTINGS, sweep
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.paper._figures import mixtures_figure, paper_figures, widths_figure

FEW = dataclasses.replace(SETTINGS, resamples=20)


@pytest.fixture(scope="module")
def cells():
    return sweep(PLANTED)


@pytest.fixture(scope="module")
def rows(cells):
    return paper_report(cells, FEW).rows


def test_a_line_a_quantizer_and_confidence_runs_through_the_measured_values(rows):
    panels = widths_figure(rows).axes
    assert [axes.get_ylabel() for axes in panels] == ["Acc, %", "C@1%, %", "AURC, %"]
    lines = {line.get_label(): line for line in panels[2].get_lines()}
    assert set(lines) == {
        f"{name}, {confidence}" for name in ("none", "hqq", "mbq") for confidence in ("maxprob", "selector")
    }
    assert [line.get_label() for line in panels[0].get_lines()] == ["none, maxprob", "hqq, maxprob", "mbq, maxprob"]
    at, values = lines["mbq, selector"].get_data()
    expected = [rows.find("qwen2_vl_tiny", f"mbq {bits}", "selector").measured for bits in (4, 3, 2)]
    assert list(at) == [4, 3, 2]
    assert list(values) == pytest.approx([100 * row.values["selective/aurc"].estimate for row in expected])
    unquantized = rows.find("qwen2_vl_tiny", "none", "selector").measured.values["selective/aurc"].estimate
    assert list(lines["none, selector"].get_ydata()) == pytest.approx([100 * unquantized] * 2)


def test_mixtures_are_drawn_by_their_share_for_a_few_configurations(rows):
    panels = mixtures_figure(rows, "qwen2_vl_tiny").axes
    assert len(panels) == 2
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    assert set(lines) == {
        f"{name}, {confidence}"
        for name in ("none", "hqq 4", "mbq 4", "hqq 2", "mbq 2")
        for confidence in ("maxprob", "selector")
    }
    at, values = lines["hqq 4, selector"].get_data()
    assert list(at) == pytest.approx([0, 10, 100 / 3, 50, 200 / 3, 100])
    end = rows.find("qwen2_vl_tiny", "hqq 4", "selector", set_name="visual_mix_100").measured
    assert values[-1] == pytest.approx(100 * end.values["selective/coverage_at_1pct_risk"].estimate)


@pytest.mark.medium
def test_each_model_has_its_own_row_and_figure(cells, rows):
    both = [*cells, *sweep(PLANTED, model="owner/idefics3", seed=3)]
    drawn = paper_figures(paper_report(both, FEW).rows)
    assert set(drawn) == {"widths.png", "mixtures.qwen2_vl_tiny.png", "mixtures.owner_idefics3.png"}
    assert len(drawn["widths.png"].axes) == 6


def test_nothing_is_drawn_of_nothing(cells):
    plain = dataclasses.replace(FEW, mixtures={})
    assert paper_figures(paper_report(cells[:1], plain).rows) == {}


def test_of_many_quantizers_mixtures_show_those_that_the_paper_compares():
    many = {**PLANTED, **{(name, bits): 0.6 for name in ("rtn", "awq") for bits in (4, 2)}}
    drawn = mixtures_figure(paper_report(sweep(many), FEW).rows, "qwen2_vl_tiny").axes[0].get_lines()
    shown = {line.get_label().partition(",")[0] for line in drawn}
    assert shown == {"none", "hqq 4", "mbq 4", "hqq 2", "mbq 2"}
