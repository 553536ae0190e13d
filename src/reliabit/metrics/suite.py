"""Metrics of one set of predictions, from one sort, under the names that runs record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.definitions import BINS, COSTS, RISKS, SURE
from reliabit.metrics.functional.effective_reliability import effective_reliability_threshold
from reliabit.metrics.functional.inputs import FloatArray, VectorLike
from reliabit.metrics.functional.ranking import Ranking, TieGroups, rank
from reliabit.metrics.metric import Metric, defined_metrics


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


@dataclass(frozen=True)
class Suite:
    """Metrics that are computed together."""

    metrics: tuple[Metric, ...]

    @property
    def probability(self) -> bool:
        """Whether confidences have to lie in [0, 1], as calibration metrics need."""
        return any(metric.probability for metric in self.metrics)

    def rank(self, predictions: Predictions) -> Ranking:
        """Check and sort predictions for this suite."""
        return rank(predictions.confidence, predictions.accuracy, probability=self.probability)

    def fit_thresholds(self, confidence: VectorLike, accuracy: VectorLike) -> dict[float, float]:
        """The threshold with the largest effective reliability at each cost, to be applied to another split.

        Args:
            confidence: Shape `(N,)`.
            accuracy: Shape `(N,)`.

        Returns:
            Cost to threshold, possibly inf.
        """
        costs = dict.fromkeys(metric.cost for metric in self.metrics if metric.cost is not None)
        return {cost: effective_reliability_threshold(confidence, accuracy, cost) for cost in costs}

    def values(self, groups: TieGroups, thresholds: Mapping[float, float]) -> dict[str, FloatArray]:
        """Every metric of tie groups by its name, shapes `()` or `(B,)`; those of a cost where it has a threshold."""
        for cost, threshold in thresholds.items():
            if np.isnan(threshold):
                raise ReliabitError(f"thresholds[{cost:g}] is nan; it must be a number or inf")
        found = {}
        for metric in self.metrics:
            if metric.formula is None:
                raise ReliabitError(f"{metric.name} is not computed from predictions; leave it out of the suite")
            if metric.cost is None:
                found[metric.name] = metric.formula(groups)
            elif metric.cost in thresholds:
                found[metric.name] = metric.formula(groups, threshold=thresholds[metric.cost])
        return found


def full_suite(
    *,
    risks: Iterable[float] = RISKS,
    costs: Iterable[float] = COSTS,
    n_bins: Iterable[int] = (10, 15, 20),
    coverage: float = 0.8,
    sure: float = SURE,
    calibration: bool = True,
) -> Suite:
    """Every metric that is defined.

    Args:
        risks: Tolerances of coverage at risk.
        costs: Costs of effective reliability.
        n_bins: Bin counts of the calibration errors.
        coverage: Coverage of risk at coverage.
        sure: From where on a wrong answer is confidently wrong.
        calibration: Whether to compute what needs confidences in [0, 1].
    """
    found = defined_metrics(
        risk=tuple(risks), cost=tuple(costs), n_bins=tuple(n_bins), coverage=(coverage,), sure=(sure,)
    )
    return Suite(tuple(one for one in found if one.formula and (calibration or not one.probability)))


def headline() -> tuple[Metric, ...]:
    """The metrics that every report shows: those of the published tables and their neighbours, kind by kind.

    >>> [metric.heading for metric in headline()]
    ['Acc', 'ECE', 'wrong >90%', 'C@0.5%', 'C@1%', 'C@5%', 'AURC', 'AUGRC', 'Φ10', 'Φ100']
    """
    shown = [one for one in defined_metrics(risk=RISKS, cost=COSTS, n_bins=(BINS,), sure=(SURE,)) if one.headline]
    return tuple(sorted(shown, key=lambda metric: metric.name.partition("/")[0]))


def headline_suite() -> Suite:
    """The headline metrics and no others: a bootstrap of them takes about a third of the time."""
    return Suite(headline())


def suite_for(configurations: Iterable[Predictions]) -> Suite:
    """The suite where none is asked for: every metric, and effective reliability at the costs that have thresholds."""
    return full_suite(costs=dict.fromkeys(cost for one in configurations for cost in one.thresholds))


def evaluate(predictions: Predictions, *, suite: Suite | None = None) -> dict[str, float]:
    """Every metric of a suite, by the name under which runs record it.

    Args:
        predictions: The predictions.
        suite: Which metrics; every one by default, those of the published tables and their neighbours.

    Returns:
        Metric name to value; NaN where a metric is undefined.

    Raises:
        ReliabitError: An argument is unusable.

    >>> values = evaluate(Predictions([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0], thresholds={10: 0.8}))
    >>> values["selective/coverage_at_5pct_risk"], values["selective/phi_10"]
    (0.4, 0.4)
    """
    chosen = suite or suite_for([predictions])
    groups = chosen.rank(predictions).groups()
    return {name: float(value) for name, value in chosen.values(groups, predictions.thresholds).items()}
