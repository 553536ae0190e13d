"""torchmetrics classes that rank; the maths is in `reliabit.metrics.definitions`.

A rank depends on every other prediction, so the states keep all confidences and accuracies as float64, concatenated
over processes: what several processes gather is what one would have seen, up to an order that does not matter.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from reliabit.metrics import definitions
from reliabit.metrics.functional.discrimination import Criterion, check_criterion
from reliabit.metrics.functional.inputs import VectorLike, as_pair
from reliabit.metrics.metric import Metric as Definition
from reliabit.metrics.suite import Predictions, Suite, evaluate, full_suite


class _PredictionsMetric(Metric):  # type: ignore[misc]  # torchmetrics is not type-checked here
    """Keeps all predictions."""

    is_differentiable = False
    full_state_update = False
    confidence: list[Tensor]
    accuracy: list[Tensor]
    probability: bool = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("confidence", [], dist_reduce_fx="cat")
        self.add_state("accuracy", [], dist_reduce_fx="cat")

    def update(self, confidence: VectorLike, accuracy: VectorLike) -> None:
        """Add predictions, both of shape `(N,)`."""
        ranked, scored = as_pair(confidence, accuracy, probability=self.probability)
        self.confidence.append(torch.from_numpy(ranked.copy()).to(self.device))
        self.accuracy.append(torch.from_numpy(scored.copy()).to(self.device))

    def _seen(self) -> tuple[Tensor, Tensor]:
        return dim_zero_cat(self.confidence), dim_zero_cat(self.accuracy)


class ReliabilitySuite(_PredictionsMetric):
    """Every metric of a suite from one sort; see `reliabit.metrics.evaluate`.

    Args:
        suite: Which metrics.
        thresholds: Cost to the threshold that another split chose for it.
        **kwargs: torchmetrics' own arguments.

    >>> metric = ReliabilitySuite()
    >>> metric.update([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0])
    >>> round(metric.compute()["selective/augrc"].item(), 6)
    0.12
    """

    def __init__(
        self, *, suite: Suite | None = None, thresholds: Mapping[float, float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds = dict(thresholds or {})
        self.suite = suite or full_suite(costs=self.thresholds)
        self.probability = self.suite.probability

    def compute(self) -> dict[str, Tensor]:
        """Metric name to a float64 scalar."""
        values = evaluate(Predictions(*self._seen(), thresholds=self.thresholds), suite=self.suite)
        return {name: torch.tensor(value, dtype=torch.float64, device=self.device) for name, value in values.items()}


class _DefinedMetric(_PredictionsMetric):
    """One metric of `reliabit.metrics.definitions`."""

    def __init__(self, definition: Definition, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.definition = definition
        self.probability = definition.probability

    def compute(self) -> Tensor:
        """The metric of all predictions so far, a float64 scalar."""
        (value,) = evaluate(Predictions(*self._seen()), suite=Suite((self.definition,))).values()
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class AURC(_DefinedMetric):
    """Area under the risk-coverage curve; see `functional.aurc`.

    >>> metric = AURC()
    >>> metric.update([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0])
    >>> round(metric.compute().item(), 6)
    0.156667
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(definitions.AURC, **kwargs)


class EAURC(_DefinedMetric):
    """AURC in excess of the best possible one; see `functional.e_aurc`."""

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(definitions.E_AURC, **kwargs)


class AUGRC(_DefinedMetric):
    """Area under the generalised risk-coverage curve; see `functional.augrc`."""

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(definitions.AUGRC, **kwargs)


class PredictionRejectionRatio(_DefinedMetric):
    """Prediction-rejection ratio; see `functional.prediction_rejection_ratio`."""

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(definitions.PRR, **kwargs)


class AUROC(_DefinedMetric):
    """AUROC of correctness; see `functional.auroc`, also for the criterion of what counts as right."""

    higher_is_better = True

    def __init__(self, *, criterion: Criterion = "half", **kwargs: Any) -> None:
        check_criterion(criterion)
        super().__init__(definitions.AUROC[criterion], **kwargs)


class CoverageAtRisk(_DefinedMetric):
    """C@R, the coverage alone, at a risk tolerance in [0, 1]; see `functional.coverage_at_risk`.

    >>> metric = CoverageAtRisk(0.25)
    >>> metric.update([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0])
    >>> metric.compute().item()
    0.8
    """

    higher_is_better = True

    def __init__(self, risk: float | Fraction, **kwargs: Any) -> None:
        super().__init__(definitions.coverage_at(risk), **kwargs)


class RiskAtCoverage(_DefinedMetric):
    """Selective risk at a coverage in (0, 1]; see `functional.risk_at_coverage`."""

    higher_is_better = False

    def __init__(self, coverage: float | Fraction = 0.8, **kwargs: Any) -> None:
        super().__init__(definitions.risk_at(coverage), **kwargs)


class AdaptiveCalibrationError(_DefinedMetric):
    """Calibration error with bins of equal mass; see `functional.calibration_error`."""

    higher_is_better = False

    def __init__(self, n_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(definitions.ece_mass(n_bins), **kwargs)
