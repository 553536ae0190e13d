"""The headline numbers: one list, by the names that runs record, with the intervals that they record."""

import pytest

from reliabit.evaluation.headline import headline_numbers, headlines

RECORDED = {
    "efficiency/samples_per_second": 301.7,
    "efficiency/stored_bytes": 3 * 2**20,
    "selective/aurc": 0.05,
    "selective/aurc.low": 0.04,
    "selective/aurc.high": 0.06,
    "selective/aurc.selector": 0.032,
    "certified/coverage_at_5pct_risk": 0.5,
    "certified/coverage_at_10pct_risk": 0.9,
    "accuracy/mean": 0.853,
    "accuracy/mean.low": 0.83,
    "accuracy/mean.high": 0.871,
}


def test_the_order_labels_and_names_are_these():
    assert [(one.heading, one.metric) for one in headlines(confidence="selector")] == [
        ("accuracy %", "accuracy/mean"),
        ("AURC %", "selective/aurc.selector"),
        ("ECE %", "calibration/ece_15.selector"),
        ("C@1%", "selective/coverage_at_1pct_risk.selector"),
        ("C@5%", "selective/coverage_at_5pct_risk.selector"),
        ("certified C@5%", "certified/coverage_at_5pct_risk.selector"),
        ("stored MiB", "efficiency/stored_bytes"),
        ("resident MiB", "efficiency/resident_bytes"),
        ("questions/s", "efficiency/samples_per_second"),
    ]


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("maxprob", ["85.3 % [83.0, 87.1]", "5.00 % [4.00, 6.00]", "50.0 %", "3.00 MiB", "302"]),
        ("selector", ["85.3 % [83.0, 87.1]", "3.20 %", "3.00 MiB", "302"]),
        # A run without it is told by the confidence that every run has.
        ("p_true", ["85.3 % [83.0, 87.1]", "5.00 % [4.00, 6.00]", "50.0 %", "3.00 MiB", "302"]),
    ],
)
def test_numbers_are_of_the_confidence_that_judges_and_only_those_that_were_recorded(wanted, shown):
    assert [found.text for found in headline_numbers(RECORDED, confidence=wanted)] == shown


def test_the_certified_risk_is_that_of_the_policy():
    [found] = [one for one in headline_numbers(RECORDED, required_risk=0.1) if "certified" in one.headline.label]
    assert (found.headline.label, found.text) == ("certified C@10%", "90.0 %")
