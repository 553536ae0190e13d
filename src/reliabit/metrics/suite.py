"""All metrics of one set of predictions, from one sort, under the names that runs record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

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
from reliabit.metrics.functional.inputs import FloatArray, IntArray, VectorLike, as_cost, as_decimal, as_risk
from reliabit.metrics.functional.ranking import Ranking, TieGroups, rank
from reliabit.metrics.functional.risk_coverage import covered, last_accepted, last_within_risk, risk_at_coverage_of

Values = dict[str, FloatArray]
Recipes = dict[str, Callable[[TieGroups], FloatArray]]

_HIGHER_IS_BETTER = (
    "accuracy/",
    "certified/coverage_at",
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
        only: The metrics that are wanted by name, if not all: resamples of many configurations take their time.
    """

    risks: tuple[float, ...] = (0.005, 0.01, 0.05)
    costs: tuple[float, ...] = (1, 10, 100)
    n_bins: tuple[int, ...] = (10, 15, 20)
    coverage: float = 0.8
    calibration: bool = True
    only: frozenset[str] | None = None

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
        """Every wanted metric of tie groups, shapes `()` or `(B,)`."""
        recipes = {"accuracy/mean": _accuracy} | self._selective()
        for cost, threshold in thresholds.items():
            recipes |= _phi(cost, threshold)
        if self.calibration:
            recipes |= self._calibration()
        return {name: recipe(groups) for name, recipe in recipes.items() if self.only is None or name in self.only}

    def _selective(self) -> Recipes:
        coverages: Recipes = {
            f"selective/coverage_at_{percent(risk)}pct_risk": partial(_coverage_at, risk=as_risk(risk))
            for risk in self.risks
        }
        risk_at = partial(risk_at_coverage_of, coverage=as_decimal(self.coverage))
        return coverages | {
            f"selective/risk_at_{percent(self.coverage)}pct_coverage": risk_at,
            "selective/aurc": aurc_of,
            "selective/aurc_mean": aurc_mean_of,
            "selective/e_aurc": e_aurc_of,
            "selective/augrc": augrc_of,
            "selective/prr": prediction_rejection_ratio_of,
            "selective/auroc_half": partial(auroc_of, criterion="half"),
            "selective/auroc_any": partial(auroc_of, criterion="any"),
            "selective/aupr_error_half": partial(aupr_error_of, criterion="half"),
            "selective/aupr_error_any": partial(aupr_error_of, criterion="any"),
            "selective/tie_share": tie_share_of,
        }

    def _calibration(self) -> Recipes:
        recipes: Recipes = {
            "calibration/brier": brier_score_of,
            "calibration/nll": negative_log_likelihood_of,
            "calibration/saturated_share": partial(_coverage_of, threshold=1.0),
        }
        for n_bins in self.n_bins:
            recipes[f"calibration/ece_{n_bins}"] = partial(equal_width_error_of, n_bins=n_bins)
            recipes[f"calibration/ece_mass_{n_bins}"] = partial(equal_mass_error_of, n_bins=n_bins)
        return recipes


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


def _accuracy(groups: TieGroups) -> FloatArray:
    return 1 - groups.risk


def _coverage_at(groups: TieGroups, risk: Fraction) -> FloatArray:
    return covered(groups, last_within_risk(groups, risk))


def _coverage_of(groups: TieGroups, threshold: float) -> FloatArray:
    return covered(groups, _last(groups, threshold))


def _risk_of(groups: TieGroups, threshold: float) -> FloatArray:
    last = _last(groups, threshold)
    return ratio(take_last(groups.accepted_loss, last), groups.unit * take_last(groups.accepted, last))


def _last(groups: TieGroups, threshold: float) -> IntArray:
    return np.broadcast_to(last_accepted(groups, threshold), groups.total.shape)


def _phi(cost: float, threshold: float) -> Recipes:
    if np.isnan(threshold):
        raise ReliabitError(f"thresholds[{cost:g}] is nan; it must be a number or inf")
    charge: Fraction = as_cost(cost)
    name = f"selective/phi_{cost:g}".replace(".", "_")
    return {
        name: partial(effective_reliability_of, cost=charge, threshold=threshold),
        f"{name}_without_abstention": partial(effective_reliability_of, cost=charge, threshold=-np.inf),
        f"{name}_threshold_coverage": partial(_coverage_of, threshold=threshold),
        f"{name}_threshold_risk": partial(_risk_of, threshold=threshold),
    }
