"""The headline metrics: those of the published tables, and AUGRC."""

from collections.abc import Mapping
from dataclasses import dataclass

from reliabit.metrics import Suite
from reliabit.metrics.functional.area import augrc_of, aurc_of
from reliabit.metrics.functional.calibration import equal_width_error_of
from reliabit.metrics.functional.effective_reliability import effective_reliability_of
from reliabit.metrics.functional.inputs import as_cost, as_risk
from reliabit.metrics.functional.ranking import TieGroups
from reliabit.metrics.functional.risk_coverage import covered, last_within_risk
from reliabit.metrics.suite import Values, percent

HEADLINE = {
    "accuracy/mean": "Acc",
    "calibration/ece_15": "ECE",
    "selective/coverage_at_0_5pct_risk": "C@0.5%",
    "selective/coverage_at_1pct_risk": "C@1%",
    "selective/coverage_at_5pct_risk": "C@5%",
    "selective/aurc": "AURC",
    "selective/augrc": "AUGRC",
    "selective/phi_10": "Φ10",
    "selective/phi_100": "Φ100",
}
"""Metric and heading."""

TABLE = {name: heading for name, heading in HEADLINE.items() if name != "selective/augrc"}
"""The columns of the paper's table."""


@dataclass(frozen=True)
class HeadlineSuite(Suite):
    """The headline metrics and no others: a bootstrap of them takes about a third of the time."""

    risks: tuple[float, ...] = (0.005, 0.01, 0.05)
    costs: tuple[float, ...] = (10, 100)
    n_bins: tuple[int, ...] = (15,)

    def values(self, groups: TieGroups, thresholds: Mapping[float, float]) -> Values:
        values = {
            "accuracy/mean": 1 - groups.risk,
            "selective/aurc": aurc_of(groups),
            "selective/augrc": augrc_of(groups),
        }
        for n_bins in self.n_bins:
            values[f"calibration/ece_{n_bins}"] = equal_width_error_of(groups, n_bins)
        for risk in self.risks:
            name = f"selective/coverage_at_{percent(risk)}pct_risk"
            values[name] = covered(groups, last_within_risk(groups, as_risk(risk)))
        for cost, threshold in thresholds.items():
            values[f"selective/phi_{cost:g}"] = effective_reliability_of(groups, as_cost(cost), threshold)
        return values


SUITE = HeadlineSuite()
