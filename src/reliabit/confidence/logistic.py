"""Logistic regression on an answer's scalars: what a Selector without hidden states can do."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reliabit.confidence.examples import SCALARS, Evidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.soft_logistic import fit_soft_logistic, sigmoid
from reliabit.metrics.functional.inputs import FloatArray


@dataclass(frozen=True, eq=False)
class FittedLogistic:
    """sigmoid(weights . scalars + bias); both refer to the scalars as they are, in the order of `SCALARS`."""

    weights: FloatArray
    bias: float
    fitted_on: FittedOn
    name: ClassVar[str] = "logistic"
    extra_forwards: ClassVar[float] = 0.0

    def __call__(self, evidence: Evidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1]."""
        return sigmoid(_scalars(evidence) @ self.weights + self.bias)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with soft targets on the standardized `SCALARS` (scikit-learn).

    Attributes:
        inverse_ridge: See `fit_soft_logistic`. Scalars of short answers are nearly collinear, and the penalty of 1
            keeps their weights apart; thousands of examples outweigh it.
    """

    inverse_ridge: float = 1.0
    name: ClassVar[str] = "logistic"
    extra_forwards: ClassVar[float] = 0.0
    fitted: ClassVar[bool] = True

    def fit(self, train: Examples, validation: Examples) -> FittedLogistic:
        """Fit the weights on the training examples."""
        scalars = _scalars(train)
        mean = scalars.mean(0)
        # Rounding gives a constant column a standard deviation, but no range.
        scale = np.where(np.ptp(scalars, axis=0) > 0, scalars.std(0), 1.0)
        weights, bias = fit_soft_logistic((scalars - mean) / scale, train.accuracy, inverse_ridge=self.inverse_ridge)
        return FittedLogistic(
            weights=weights / scale,
            bias=bias - float(weights @ (mean / scale)),
            fitted_on=FittedOn.images(train.image_keys),
        )


def _scalars(evidence: Evidence) -> FloatArray:
    return np.stack([evidence.column(name, confidence=Logistic.name) for name in SCALARS], axis=1)
