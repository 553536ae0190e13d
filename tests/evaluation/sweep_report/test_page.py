"""The page as a file: whole, small, without an address, and proof against what questions and answers hold."""

import json
import re

import pytest

from evaluation.sweep_report.made import HOSTILE, PROVENANCE, reported_sweep
from reliabit.errors import ReliabitError
from reliabit.evaluation.sweep_report import LIMIT, report_contents, report_page
from reliabit.evaluation.sweep_report.page import drawing_library


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sweep():
    return reported_sweep()


@pytest.fixture(scope="module")
def page(sweep, cache):
    return report_page(report_contents(sweep, PROVENANCE), cache=cache)


def contents_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_page_holds_what_the_sweep_found(page, sweep):
    found = contents_of(page)
    assert len(page.encode()) < LIMIT
    assert found["provenance"]["title"] == "sweep·<made>"
    [family] = found["families"]
    assert family["where"] == "tiny · made"
    assert [cell["name"] for cell in family["cells"]] == ["none", "tiny·hqq·4b", "tiny·hqq·2b"]
    assert [cell["chosen"] for cell in family["cells"]] == [False, True, False]
    assert family["confidences"] == ["maxprob", "selector"]
    assert [one["name"] for one in family["cells"][0]["shifts"]] == ["in_domain", "blur_3"]
    # As the sweep's own comparison has it, in points.
    drop = family["cells"][2]["paired"]["accuracy"]
    own = sweep.comparisons[0].differences["tiny·hqq·2b"]["accuracy/mean"]
    assert (drop["value"], drop["low"]) == pytest.approx((100 * own.estimate, 100 * own.low), abs=6e-4)
    assert family["cells"][1]["costs"] == {"stored MiB": 4, "resident MiB": 5, "ms/question": 10}
    accuracy = family["cells"][1]["by_confidence"]["selector"]["numbers"]["accuracy %"]
    assert (accuracy["value"], accuracy["low"], accuracy["high"]) == (90, 88, 92)


def test_slices_are_those_that_were_compared(page, sweep):
    [family], [own] = contents_of(page)["families"], sweep.slices
    assert family["slices"]["verdict"] == own.verdict
    rows = family["slices"]["rows"]
    assert {row["slice"] for row in rows} == {f"question_type {kind}" for kind in ("color", "shape", "size")}
    told = {one.change.estimate for one in own.changes if one.worse and one.column != "all"}
    shown = {row["change"] for row in rows if row["told"] == "worse"}
    assert told
    assert sorted(shown) == pytest.approx(sorted(round(100 * one, 2) for one in told))


def test_a_page_asks_nobody_for_anything(page):
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "http:" not in markup
    assert "https:" not in markup
    assert re.findall(r"<(?:link|script src|iframe|object|embed)\b", markup) == []
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "eval" not in policy


def test_no_question_becomes_markup(page):
    assert HOSTILE not in page
    assert page.count("</script>") == page.count("<script")
    assert all(one["question"].startswith(HOSTILE) for one in contents_of(page)["families"][0]["questions"])


def test_a_page_that_would_be_too_large_shows_fewer_questions(sweep, page, cache):
    whole = len(contents_of(page)["families"][0]["questions"])
    size = len(page.encode())
    shorter = report_page(report_contents(sweep, PROVENANCE), limit=size - 1000, cache=cache)
    assert len(shorter.encode()) < size - 1000
    assert 0 < len(contents_of(shorter)["families"][0]["questions"]) < whole
    with pytest.raises(ReliabitError, match="without a single picture.*run fewer in one sweep"):
        report_page(report_contents(sweep, PROVENANCE), limit=10_000, cache=cache)


def test_the_library_is_made_once(page, cache):
    [kept] = cache.glob("vega-*.js")
    assert kept.read_text(encoding="utf-8") == drawing_library() == drawing_library(cache)


def test_without_costs_comparisons_or_verdict_there_is_a_page_all_the_same(cache):
    bare = reported_sweep(fronts=(), comparisons=(), slices=(), verdicts=(), shifts=(), selector=False)
    [family] = contents_of(report_page(report_contents(bare, PROVENANCE), cache=cache))["families"]
    assert family["verdict"] == ""
    assert {cell["standing"] for cell in family["cells"]} == {None}
    assert not any(cell["shifts"] or cell["paired"] or cell["chosen"] for cell in family["cells"])
