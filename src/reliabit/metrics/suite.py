"""All metrics of one set of predictions, from one sort, under the names that runs record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.area import (
    augrc_of,
    aurc_mean_of,
    aurc_of,
    e_aurc_of,
    prediction_rejection_ratio_of,
)
from reliabit.metrics.functional.arrays import ratio, take_last
from reliabit.metrics.functional.calibration import (
    brier_score_of,
    equal_mass_error_of,
    equal_width_error_of,
    negative_log_likelihood_of,
)
from reliabit.metrics.functional.discrimination import aupr_error_of, auroc_of, tie_share_of
from reliabit.metrics.functional.effective_reliability import effective_reliability_of, effective_reliability_threshold
from reliabit.metrics.functional.inputs import FloatArray, VectorLike, as_cost, as_decimal, as_risk
from reliabit.metrics.functional.ranking import Ranking, TieGroups, rank
from reliabit.metrics.functional.risk_coverage import covered, last_accepted, last_within_risk, risk_at_coverage_of

Values = dict[str, FloatArray]

_HIGHER_IS_BETTER = (
    "accuracy/",
    "selective/coverage_at",
    "selective/prr",
    "selective/auroc",
    "selective/aupr_error",
    "selective/phi",
)


@dataclass(frozen=True)
class Suite:
    """Which metrics to compute.

    Attributes:
        risks: Tolerances of `coverage_at_risk`.
        costs: Costs of `effective_reliability`.
        n_bins: Bin counts of the calibration errors.
        coverage: Coverage of `risk_at_coverage`.
        calibration: Whether to compute calibration metrics, which need confidences in [0, 1].
    """

    risks: tuple[float, ...] = (0.005, 0.01, 0.05)
    costs: tuple[float, ...] = (1, 10, 100)
    n_bins: tuple[int, ...] = (10, 15, 20)
    coverage: float = 0.8
    calibration: bool = True

    def rank(self, predictions: "Predictions") -> Ranking:
        """Check and sort predictions for this suite."""
        return rank(predictions.confidence, predictions.accuracy, probability=self.calibration)

    def fit_thresholds(self, confidence: VectorLike, accuracy: VectorLike) -> dict[float, float]:
        """The threshold with the largest effective reliability at each cost, to be applied to another split.

        Args:
            confidence: Shape `(N,)`.
            accuracy: Shape `(N,)`.

        Returns:
            Cost to threshold, possibly inf.
        """
        return {cost: effective_reliability_threshold(confidence, accuracy, cost) for cost in self.costs}

    def values(self, groups: TieGroups, thresholds: Mapping[float, float]) -> Values:
        """Every metric of tie groups, shapes `()` or `(B,)`."""
        values = {"accuracy/mean": 1 - groups.risk} | self._selective(groups)
        for cost, threshold in thresholds.items():
            values |= _phi(groups, cost, threshold)
        return values | self._calibration(groups) if self.calibration else values

    def _selective(self, groups: TieGroups) -> Values:
        coverages = {
            f"selective/coverage_at_{percent(risk)}pct_risk": covered(groups, last_within_risk(groups, as_risk(risk)))
            for risk in self.risks
        }
        return coverages | {
            f"selective/risk_at_{percent(self.coverage)}pct_coverage": risk_at_coverage_of(
                groups, as_decimal(self.coverage)
            ),
            "selective/aurc": aurc_of(groups),
            "selective/aurc_mean": aurc_mean_of(groups),
            "selective/e_aurc": e_aurc_of(groups),
            "selective/augrc": augrc_of(groups),
            "selective/prr": prediction_rejection_ratio_of(groups),
            "selective/auroc_half": auroc_of(groups, criterion="half"),
            "selective/auroc_any": auroc_of(groups, criterion="any"),
            "selective/aupr_error_half": aupr_error_of(groups, criterion="half"),
            "selective/aupr_error_any": aupr_error_of(groups, criterion="any"),
            "selective/tie_share": tie_share_of(groups),
        }

    def _calibration(self, groups: TieGroups) -> Values:
        saturated = np.broadcast_to(last_accepted(groups, 1.0), groups.total.shape)
        values = {
            "calibration/brier": brier_score_of(groups),
            "calibration/nll": negative_log_likelihood_of(groups),
            "calibration/saturated_share": covered(groups, saturated),
        }
        for n_bins in self.n_bins:
            values[f"calibration/ece_{n_bins}"] = equal_width_error_of(groups, n_bins)
            values[f"calibration/ece_mass_{n_bins}"] = equal_mass_error_of(groups, n_bins)
        return values


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the metrics need of one configuration's answers to one set of questions.

    Attributes:
        confidence: Shape `(N,)`, higher is surer.
        accuracy: Shape `(N,)` in [0, 1].
        thresholds: Cost to the threshold that another split chose for it (`Suite.fit_thresholds`); effective
            reliability is reported for these costs.
    """

    confidence: VectorLike
    accuracy: VectorLike
    thresholds: Mapping[float, float] = field(default_factory=dict)


def evaluate(predictions: Predictions, *, suite: Suite | None = None) -> dict[str, float]:
    """Every metric of a suite, by the name under which runs record it.

    Args:
        predictions: The predictions.
        suite: Which metrics; by default those of the published tables and their neighbours.

    Returns:
        Metric name to value; NaN where a metric is undefined.

    Raises:
        ReliabitError: An argument is unusable.

    >>> values = evaluate(Predictions([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0], thresholds={10: 0.8}))
    >>> values["selective/coverage_at_5pct_risk"], values["selective/phi_10"]
    (0.4, 0.4)
    """
    chosen = suite or Suite()
    groups = chosen.rank(predictions).groups()
    return {name: float(value) for name, value in chosen.values(groups, predictions.thresholds).items()}


def higher_is_better(metric: str) -> bool:
    """Whether larger values of a metric are better, by its name.

    >>> higher_is_better("selective/prr"), higher_is_better("calibration/ece_15")
    (True, False)
    """
    if metric.endswith("_threshold_risk"):
        return False
    return metric.startswith(_HIGHER_IS_BETTER)


def percent(share: float) -> str:
    """A share in per cent, as names hold it.

    >>> percent(0.005), percent(0.8)
    ('0_5', '80')
    """
    return f"{float(100 * as_decimal(share)):g}".replace(".", "_")


def _phi(groups: TieGroups, cost: float, threshold: float) -> Values:
    if np.isnan(threshold):
        raise ReliabitError(f"thresholds[{cost:g}] is nan; it must be a number or inf")
    charge: Fraction = as_cost(cost)
    name = f"selective/phi_{cost:g}".replace(".", "_")
    last = np.broadcast_to(last_accepted(groups, threshold), groups.total.shape)
    return {
        name: effective_reliability_of(groups, charge, threshold),
        f"{name}_without_abstention": effective_reliability_of(groups, charge, -np.inf),
        f"{name}_threshold_coverage": covered(groups, last),
        f"{name}_threshold_risk": ratio(
            take_last(groups.accepted_loss, last), groups.unit * take_last(groups.accepted, last)
        ),
    }
