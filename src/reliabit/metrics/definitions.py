"""The metrics, each defined once and found under its name; `AURC.name` is what runs record it by.

They are computed in this order. One that is added here is in every suite, report and comparison.
"""

from functools import partial

import numpy as np

from reliabit.metrics.functional.area import (
    augrc_of,
    augrc_parts,
    aurc_mean_of,
    aurc_of,
    e_aurc_of,
    prediction_rejection_ratio_of,
)
from reliabit.metrics.functional.calibration import (
    brier_score_of,
    confidently_wrong_of,
    confidently_wrong_parts,
    equal_mass_error_of,
    equal_width_error_of,
    negative_log_likelihood_of,
)
from reliabit.metrics.functional.discrimination import aupr_error_of, auroc_of, tie_share_of
from reliabit.metrics.functional.effective_reliability import effective_reliability_of
from reliabit.metrics.functional.inputs import FloatArray, as_cost, as_decimal, as_risk
from reliabit.metrics.functional.ranking import TieGroups, ratio, take_last
from reliabit.metrics.functional.risk_coverage import covered, last_accepted, last_within_risk, risk_at_coverage_of
from reliabit.metrics.metric import Metric, family, register

RISKS = (0.005, 0.01, 0.05)
COSTS = (1.0, 10.0, 100.0)
BINS = 15
"""The custom since Guo et al. 2017."""

SURE = 0.9
"""From where on an answer passes for sure."""


def _per_cent(share: float) -> str:
    return f"{float(100 * as_decimal(share)):g}%"


def _coverage_of(groups: TieGroups, threshold: float) -> FloatArray:
    return covered(groups, np.broadcast_to(last_accepted(groups, threshold), groups.total.shape))


def _risk_of(groups: TieGroups, threshold: float) -> FloatArray:
    last = np.broadcast_to(last_accepted(groups, threshold), groups.total.shape)
    return ratio(take_last(groups.accepted_loss, last), groups.unit * take_last(groups.accepted, last))


QUESTIONS = register(Metric(name="accuracy/questions", heading="n", unit="questions"))
"""How many questions a report is of; recorded beside the metrics."""

ACCURACY = register(
    Metric(
        name="accuracy/mean",
        heading="Acc",
        phrase="accuracy",
        formula=lambda groups: 1 - groups.risk,
        higher_is_better=True,
        parts=lambda _, accuracy: accuracy,
        headline=True,
        ends_recorded=True,
    )
)


@family("selective/coverage_at_{}pct_risk", "risk")
def coverage_at(name: str, risk: float) -> Metric:
    """C@R, see `functional.coverage_at_risk`."""
    tolerance = as_risk(risk)
    return Metric(
        name=name,
        heading=f"C@{_per_cent(risk)}",
        formula=lambda groups: covered(groups, last_within_risk(groups, tolerance)),
        higher_is_better=True,
        headline=risk in RISKS,
        ends_recorded=True,
    )


@family("certified/coverage_at_{}pct_risk", "risk")
def certified_coverage_at(name: str, risk: float) -> Metric:
    """The coverage of a certified threshold, see `reliabit.metrics.Certificate`."""
    return Metric(name=name, heading=f"certified C@{_per_cent(risk)}", higher_is_better=True)


@family("selective/carried_risk_{}pct", "risk")
def carried_risk(name: str, risk: float) -> Metric:
    """The risk at a threshold that was certified for another model, see `reliabit.evaluation.certification.carry`."""
    return Metric(name=name, heading=f"risk, certified {_per_cent(risk)}")


@family("selective/risk_at_{}pct_coverage", "coverage")
def risk_at(name: str, coverage: float) -> Metric:
    """See `functional.risk_at_coverage`."""
    formula = partial(risk_at_coverage_of, coverage=as_decimal(coverage))
    return Metric(name=name, heading=f"R@{_per_cent(coverage)}", formula=formula)


AURC = register(Metric(name="selective/aurc", heading="AURC", formula=aurc_of, headline=True, ends_recorded=True))
AURC_MEAN = register(Metric(name="selective/aurc_mean", heading="mean risk", formula=aurc_mean_of))
E_AURC = register(Metric(name="selective/e_aurc", heading="E-AURC", formula=e_aurc_of))
AUGRC = register(
    Metric(
        name="selective/augrc",
        heading="AUGRC",
        formula=augrc_of,
        parts=augrc_parts,
        headline=True,
        ends_recorded=True,
    )
)
PRR = register(
    Metric(name="selective/prr", heading="PRR", formula=prediction_rejection_ratio_of, higher_is_better=True)
)
AUROC, AUPR_ERROR = (
    {
        criterion: register(
            Metric(
                name=template.format(criterion),
                heading=f"{heading} ({criterion})",
                formula=partial(formula, criterion=criterion),
                higher_is_better=True,
            )
        )
        for criterion in ("half", "any")
    }
    for template, heading, formula in (
        ("selective/auroc_{}", "AUROC", auroc_of),
        ("selective/aupr_error_{}", "AUPR error", aupr_error_of),
    )
)
"""By what counts as right, see `functional.auroc`."""

TIE_SHARE = register(Metric(name="selective/tie_share", heading="ties", formula=tie_share_of))


@family("selective/phi_{}", "cost")
def phi(name: str, cost: float) -> Metric:
    """Effective reliability, see `functional.effective_reliability`."""
    charge = as_cost(cost)
    return Metric(
        name=name,
        heading=f"Φ{cost:g}",
        formula=lambda groups, threshold: effective_reliability_of(groups, charge, threshold),
        higher_is_better=True,
        cost=cost,
        headline=cost in (10, 100),
    )


@family("selective/phi_{}_without_abstention", "cost")
def phi_without_abstention(name: str, cost: float) -> Metric:
    """Effective reliability of answering everything."""
    charge = as_cost(cost)
    return Metric(
        name=name,
        heading=f"Φ{cost:g}, all",
        formula=lambda groups, threshold: effective_reliability_of(groups, charge, -np.inf),  # noqa: ARG005
        higher_is_better=True,
        cost=cost,
    )


@family("selective/phi_{}_threshold_coverage", "cost")
def phi_coverage(name: str, cost: float) -> Metric:
    """Coverage of the threshold of a cost."""
    return Metric(name=name, heading=f"C(Φ{cost:g})", formula=_coverage_of, higher_is_better=True, cost=cost)


@family("selective/phi_{}_threshold_risk", "cost")
def phi_risk(name: str, cost: float) -> Metric:
    """Selective risk of the threshold of a cost."""
    return Metric(name=name, heading=f"R(Φ{cost:g})", formula=_risk_of, cost=cost)


BRIER = register(Metric(name="calibration/brier", heading="Brier", formula=brier_score_of, probability=True))
NLL = register(
    Metric(name="calibration/nll", heading="NLL", formula=negative_log_likelihood_of, probability=True, unit="nats")
)
SATURATED_SHARE = register(
    Metric(
        name="calibration/saturated_share",
        heading="saturated",
        formula=partial(_coverage_of, threshold=1.0),
        probability=True,
    )
)


@family("calibration/ece_{}", "n_bins")
def ece(name: str, n_bins: int) -> Metric:
    """Expected calibration error in bins of equal width, see `functional.calibration_error`."""
    return Metric(
        name=name,
        heading="ECE" if n_bins == BINS else f"ECE, {n_bins} bins",
        formula=partial(equal_width_error_of, n_bins=n_bins),
        probability=True,
        headline=n_bins == BINS,
        ends_recorded=n_bins == BINS,
    )


@family("calibration/ece_mass_{}", "n_bins")
def ece_mass(name: str, n_bins: int) -> Metric:
    """Expected calibration error in bins of equal mass."""
    formula = partial(equal_mass_error_of, n_bins=n_bins)
    return Metric(name=name, heading=f"ECE, {n_bins} equal bins", formula=formula, probability=True)


@family("calibration/confidently_wrong_{}pct", "sure")
def confidently_wrong(name: str, sure: float) -> Metric:
    """The share of questions answered wrongly with a confidence above a level, see `functional.confidently_wrong`."""
    return Metric(
        name=name,
        heading=f"wrong >{_per_cent(sure)}",
        phrase=f"confidence above {_per_cent(sure)}, wrong",
        formula=partial(confidently_wrong_of, sure=sure),
        probability=True,
        parts=partial(confidently_wrong_parts, sure=sure),
        headline=sure == SURE,
        ends_recorded=sure == SURE,
    )
