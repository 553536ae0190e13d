"""The findings check finds what was planted, refutes what was reversed, and leaves noise undecided."""

import dataclasses
import json

import pytest

from evaluation.sweep import PLANTED, SETTINGS, noisy_sweep, sweep
from reliabit.evaluation.paper import paper_report
from reliabit.evaluation.paper._claims import CLAIMS
from reliabit.evaluation.paper._findings import check_findings
from reliabit.evaluation.paper._measurement import measure_models

pytestmark = pytest.mark.medium

NAMES = [claim.name for claim in CLAIMS]
REVERSED = {
    ("none", 16): 0.3,
    ("hqq", 8): 0.45,
    ("hqq", 4): 0.7,
    ("mbq", 4): 0.55,
    ("hqq", 3): 0.8,
    ("mbq", 3): 0.65,
    ("hqq", 2): 0.9,
    ("mbq", 2): 0.75,
}
"""Lower bits win, and the data-free quantizer."""


def check(cells, *, level=0.95, **changes):
    return check_findings(measure_models(cells, dataclasses.replace(SETTINGS, **changes)), level=level)


@pytest.fixture(scope="module")
def planted():
    return check(sweep(PLANTED))


@pytest.mark.parametrize("name", NAMES)
def test_planted_truths_are_supported(planted, name):
    finding = planted.find(name)
    assert finding.verdict == "supported", [one for one in finding.contrasts if one.verdict != "supported"]


def test_reversed_truths_are_not_supported():
    found = check(sweep(REVERSED, blindness=(1, 5), under_shift=1.1))
    assert {name: found.find(name).verdict for name in NAMES} == dict.fromkeys(NAMES, "not supported")


def test_noise_is_undecided():
    found = check(noisy_sweep(PLANTED))
    verdicts = {name: found.find(name).verdict for name in ("a", "b", "c", "d")}
    assert verdicts == dict.fromkeys(verdicts, "undecided")
    assert found.find("e").verdict == found.find("f").verdict == "undecided"
    # 0.4 points either way are less than 2700 questions can tell.
    assert found.find("b, side remark").verdict == "undecided"


def test_one_contrast_on_the_other_side_refutes_a_claim():
    found = check(sweep({**PLANTED, ("hqq", 3): 0.99})).find("a")
    assert found.verdict == "not supported"
    assert [one.what for one in found.contrasts if one.verdict == "not supported"] == ["hqq 3 - none"]
    assert "6 contrasts" in found.sentence()
    assert "5 lie wholly where the claim expects them, 1 wholly elsewhere, and 0 on both sides" in found.sentence()


def test_intervals_are_corrected_for_the_contrasts_of_the_claim_over_all_models(planted):
    counts = {"a": 6, "b": 12, "b, side remark": 3, "c": 6, "d": 16, "e": 16, "f": 10}
    for name, count in counts.items():
        finding = planted.find(name)
        assert len(finding.contrasts) == count
        assert {one.found.level for one in finding.contrasts} == {finding.level}
        assert finding.level == pytest.approx(1 - 0.05 / count)
    both = check([*sweep(PLANTED), *sweep(PLANTED, model="idefics3_tiny", seed=5)], resamples=50).find("a")
    assert both.level == pytest.approx(1 - 0.05 / 12)
    assert set(both.by_model) == {"qwen2_vl_tiny", "idefics3_tiny"}


def test_contrasts_are_the_differences_of_the_table(planted):
    cells = sweep(PLANTED)
    rows = paper_report(cells, SETTINGS).rows

    def value(cell, confidence, metric, set_name="in_domain"):
        return rows.find("qwen2_vl_tiny", cell, confidence, set_name=set_name).measured.values[metric].estimate

    found = {
        (name, one.what, one.metric.name, one.set_name): one for name in NAMES for one in planted.find(name).contrasts
    }
    accuracy, aurc, coverage = "accuracy/mean", "selective/aurc", "selective/coverage_at_1pct_risk"
    expected = {
        ("a", "mbq 3 - none", accuracy, "in_domain"): value("mbq 3", "maxprob", accuracy)
        - value("none", "maxprob", accuracy),
        ("c", "mbq 2, maxprob - hqq 2, maxprob", aurc, "in_domain"): value("mbq 2", "maxprob", aurc)
        - value("hqq 2", "maxprob", aurc),
        ("d", "hqq 8, selector - hqq 8, maxprob", coverage, "in_domain"): value("hqq 8", "selector", coverage)
        - value("hqq 8", "maxprob", coverage),
        ("e", "none, selector: all shifted - none shifted", coverage, "visual_mix_100 - visual_mix_0"): value(
            "none", "selector", coverage, "visual_mix_100"
        )
        - value("none", "selector", coverage, "visual_mix_0"),
        ("f", "mbq 4 - 98 % of none", accuracy, "in_domain"): value("mbq 4", "maxprob", accuracy)
        - 0.98 * value("none", "maxprob", accuracy),
        ("f", "hqq 2, selector - none, maxprob", coverage, "in_domain"): value("hqq 2", "selector", coverage)
        - value("none", "maxprob", coverage),
    }
    assert {key: found[key].found.estimate for key in expected} == pytest.approx(expected)


def test_what_was_not_measured_is_called_so():
    without_mbq = {key: share for key, share in PLANTED.items() if key[0] != "mbq"}
    found = check(sweep(without_mbq), resamples=100)
    verdicts = {name: found.find(name).verdict for name in NAMES}
    assert {name for name, verdict in verdicts.items() if verdict == "not measured"} == {"c", "f"}
    assert found.find("c").sentence() == (
        "Not measured: it takes cells of mbq and hqq at the same width of 4, 3 or 2 bits."
    )
    assert "Not measured" in found.markdown()
    plain = check(sweep(PLANTED, confidences=("maxprob",)), resamples=100)
    assert [name for name in NAMES if plain.find(name).verdict == "not measured"] == ["d", "e", "f"]
    quantized = {key: share for key, share in PLANTED.items() if key[0] != "none"}
    alone = check(sweep(quantized), resamples=100)
    assert [name for name in NAMES if alone.find(name).verdict == "not measured"] == ["a", "b", "b, side remark", "f"]
    unshifted = check(sweep(PLANTED), resamples=100, mixtures={})
    assert unshifted.find("e").verdict == "not measured"


def test_a_model_without_the_cells_does_not_hide_the_other():
    without_mbq = {key: share for key, share in PLANTED.items() if key[0] != "mbq"}
    found = check([*sweep(PLANTED), *sweep(without_mbq, model="idefics3_tiny")]).find("c")
    assert found.by_model == {"qwen2_vl_tiny": "supported", "idefics3_tiny": "not measured"}
    assert found.verdict == "supported"


@pytest.mark.parametrize(
    ("changed", "condition", "verdict"),
    [
        # Too much accuracy is lost.
        ({("mbq", 4): 0.75}, "mbq 4 keeps 98 % of the accuracy", "not supported"),
        # A narrower cell does as well.
        ({("hqq", 3): 0.9}, "hqq 3 with the Selector misses one of the two", "not supported"),
        # It fails in accuracy alone, which is enough to fail.
        ({("hqq", 3): 0.7}, "hqq 3 with the Selector misses one of the two", "supported"),
    ],
)
def test_the_best_trade_off_takes_all_its_conditions(changed, condition, verdict):
    finding = check(sweep({**PLANTED, **changed})).find("f")
    assert {one.name: one.verdict for one in finding.conditions}[condition] == verdict
    assert finding.verdict == verdict


def test_the_best_trade_off_needs_something_narrower_to_beat():
    wide = {key: share for key, share in PLANTED.items() if key[1] >= 4}
    finding = check(sweep(wide), resamples=100).find("f")
    assert finding.verdict == "not measured"
    assert {one.verdict for one in finding.conditions if one.contrasts} == {"supported"}


def test_json_and_markdown_hold_every_contrast(planted):
    read = json.loads(planted.to_json())
    assert [claim["name"] for claim in read["claims"]] == NAMES
    for claim, finding in zip(read["claims"], planted.found, strict=True):
        contrasts = [contrast for condition in claim["conditions"] for contrast in condition["contrasts"]]
        assert claim["comparisons"] == len(contrasts)
        assert [one["low"] for one in contrasts] == [one.found.low for one in finding.contrasts]
        assert claim["by_model"] == {"qwen2_vl_tiny": claim["verdict"]}
    text = planted.markdown()
    assert text.count("\n## ") == len(CLAIMS)
    lines = [line for line in text.splitlines() if line.startswith("| qwen2_vl_tiny | ") and line.count("|") == 8]
    assert len(lines) == sum(len(finding.contrasts) for finding in planted.found)
