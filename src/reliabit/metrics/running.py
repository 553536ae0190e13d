"""torchmetrics classes whose sums suffice; the maths is in `reliabit.metrics.functional`.

States are float64 sums that processes add up, in constant memory. Results are float64 tensors and fractions.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from reliabit.errors import ReliabitError
from reliabit.metrics import functional
from reliabit.metrics.functional.answers import Variant
from reliabit.metrics.functional.calibration import equal_width_bins
from reliabit.metrics.functional.inputs import FloatArray, VectorLike, as_accuracy, as_cost, as_pair
from reliabit.metrics.functional.ranking import cross_entropy


class _SumMetric(Metric):  # type: ignore[misc]  # torchmetrics is not type-checked here
    """Keeps a sum and a count; the result is their quotient."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, values: FloatArray) -> None:
        self.total += float(values.sum())
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean so far, a float64 scalar."""
        return self.total / self.count


class MeanAccuracy(_SumMetric):
    """Mean of accuracies in [0, 1].

    >>> metric = MeanAccuracy()
    >>> metric.update([1.0, 0.3])
    >>> metric.compute().item()
    0.65
    """

    higher_is_better = True

    def update(self, accuracy: VectorLike) -> None:
        """Add accuracies of shape `(N,)`."""
        self._add(as_accuracy(accuracy))


class VQAAccuracy(_SumMetric):
    """Mean soft VQA accuracy of answers; see `functional.vqa_accuracy`.

    Args:
        variant: The answer normaliser.
        paper_compat: Do not normalise where all references are equal.
        **kwargs: torchmetrics' own arguments.

    >>> metric = VQAAccuracy()
    >>> metric.update(["Yes", "2"], [["yes"] * 10, ["two"] * 3 + ["3"] * 7])
    >>> metric.compute().item()
    0.95
    """

    higher_is_better = True

    def __init__(self, *, variant: Variant = "official", paper_compat: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variant: Variant = variant
        self.paper_compat = paper_compat

    def update(self, predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
        """Add one prediction and one list of reference answers a question."""
        if len(predictions) != len(answers):
            raise ReliabitError(f"predictions has {len(predictions)} values and answers has {len(answers)}")
        scores = [
            functional.vqa_accuracy(prediction, references, variant=self.variant, paper_compat=self.paper_compat)
            for prediction, references in zip(predictions, answers, strict=True)
        ]
        self._add(np.array(scores))


class BrierScore(_SumMetric):
    """Brier score on soft targets; see `functional.brier_score`.

    >>> metric = BrierScore()
    >>> metric.update([0.8, 0.4], [1.0, 0.3])
    >>> round(metric.compute().item(), 6)
    0.025
    """

    higher_is_better = False

    def update(self, confidence: VectorLike, accuracy: VectorLike) -> None:
        """Add predictions, both of shape `(N,)`."""
        promised, kept = as_pair(confidence, accuracy, probability=True)
        self._add((promised - kept) ** 2)


class NegativeLogLikelihood(_SumMetric):
    """Cross-entropy with soft targets; see `functional.negative_log_likelihood`.

    >>> metric = NegativeLogLikelihood()
    >>> metric.update([0.3], [0.3])
    >>> round(metric.compute().item(), 4)
    0.6109
    """

    higher_is_better = False

    def update(self, confidence: VectorLike, accuracy: VectorLike) -> None:
        """Add predictions, both of shape `(N,)`."""
        promised, kept = as_pair(confidence, accuracy, probability=True)
        self._add(cross_entropy(promised, kept, eps=1e-12))


class EffectiveReliability(_SumMetric):
    """Effective reliability at a threshold that another split chose; see `functional.effective_reliability`.

    Args:
        cost: The cost of a wrong answer.
        threshold: Accept confidence >= threshold.
        **kwargs: torchmetrics' own arguments.

    >>> metric = EffectiveReliability(cost=10, threshold=0.75)
    >>> metric.update([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    >>> metric.compute().item()
    -2.25
    """

    higher_is_better = True

    def __init__(self, *, cost: float | Fraction, threshold: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cost = float(as_cost(cost))
        self.threshold = threshold

    def update(self, confidence: VectorLike, accuracy: VectorLike) -> None:
        """Add predictions, both of shape `(N,)`."""
        ranked, scored = as_pair(confidence, accuracy)
        self._add(np.where(ranked >= self.threshold, np.where(scored > 0, scored, -self.cost), 0.0))


class CalibrationError(Metric):  # type: ignore[misc]  # torchmetrics is not type-checked here
    """Expected calibration error with bins of equal width; see `functional.calibration_error`.

    Args:
        n_bins: How many bins.
        **kwargs: torchmetrics' own arguments.

    >>> metric = CalibrationError(n_bins=10)
    >>> metric.update([0.95, 0.85, 0.75, 0.65], [1, 1, 0, 1])
    >>> round(metric.compute().item(), 6)
    0.325
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    excess: Tensor
    count: Tensor

    def __init__(self, n_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if n_bins < 1:
            raise ReliabitError(f"n_bins is {n_bins}; it must be at least 1")
        self.n_bins = n_bins
        self.add_state("excess", torch.zeros(n_bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confidence: VectorLike, accuracy: VectorLike) -> None:
        """Add predictions, both of shape `(N,)`."""
        promised, kept = as_pair(confidence, accuracy, probability=True)
        excess = np.bincount(equal_width_bins(promised, self.n_bins), weights=kept - promised, minlength=self.n_bins)
        self.excess += torch.from_numpy(excess).to(self.excess.device)
        self.count += len(kept)

    def compute(self) -> Tensor:
        """The error so far, a float64 scalar."""
        return self.excess.abs().sum() / self.count
