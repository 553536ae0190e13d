"""Recalibrated MaxProb: the same ranking with honest probabilities.

Neither method can change a selective metric, but for the ties that isotonic regression makes. They are the control
for the Selector: what it gains in calibration only, they gain too.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reliabit.confidence.examples import Evidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.soft_logistic import drawn_inwards, fit_soft_logistic, sigmoid
from reliabit.metrics.functional.inputs import FloatArray

# Enough to keep the Newton step solvable where all probabilities are equal, too little to be seen in a slope.
INVERSE_RIDGE = 1e6

# The log-probability above which exp of it is 1; its log-odds are 37.
SUREST = -(2.0**-53)


def log_odds(log_prob: FloatArray) -> FloatArray:
    """log(p / (1 - p)) of log p, exact also where p rounds to 1.

    >>> log_odds(np.log([0.5, 0.9])).round(6)
    array([0.      , 2.197225])
    """
    bounded = np.minimum(log_prob, SUREST)
    return np.asarray(bounded - np.log(-np.expm1(bounded)))


@dataclass(frozen=True)
class FittedPlatt:
    """sigmoid(slope log(p / (1 - p)) + intercept), with p the joint probability; slope 1 and intercept 0 is p."""

    slope: float
    intercept: float
    fitted_on: FittedOn
    name: ClassVar[str] = "platt"
    extra_forwards: ClassVar[float] = 0.0

    def __call__(self, evidence: Evidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1]."""
        return sigmoid(self.slope * log_odds(evidence.column("log_prob", confidence=self.name)) + self.intercept)


@dataclass(frozen=True)
class Platt:
    """Platt scaling of MaxProb's log-odds with soft targets (Platt 1999).

    Log-odds, because the family then holds MaxProb itself. A sigmoid of the log-probability does not: it cannot come
    near 1 where p does, and on the reference model's answers it tripled the calibration error that it should mend
    (ECE 0.010 to 0.031; by log-odds 0.013).
    """

    name: ClassVar[str] = "platt"
    extra_forwards: ClassVar[float] = 0.0
    fitted: ClassVar[bool] = True

    def fit(self, train: Examples, validation: Examples) -> FittedPlatt:
        """Fit slope and intercept on the training examples.

        A slope is never negative: where surer answers are worse, the best rising curve is a constant.
        """
        odds = log_odds(train.column("log_prob", confidence=self.name))
        mean = float(odds.mean())
        # Rounding gives equal values a standard deviation, but no range.
        scale = float(odds.std()) if np.ptp(odds) > 0 else 1.0
        weights, bias = fit_soft_logistic(((odds - mean) / scale)[:, None], train.accuracy, inverse_ridge=INVERSE_RIDGE)
        fitted_on = FittedOn.images(train.image_keys)
        if weights[0] < 0:
            share = float(drawn_inwards(train.accuracy).mean())
            return FittedPlatt(slope=0.0, intercept=float(np.log(share / (1 - share))), fitted_on=fitted_on)
        slope = float(weights[0]) / scale
        return FittedPlatt(slope=slope, intercept=bias - slope * mean, fitted_on=fitted_on)


@dataclass(frozen=True, eq=False)
class FittedIsotonic:
    """A rising curve through knots, straight between them and constant beyond.

    Attributes:
        log_prob: The knots' abscissae, ascending, `[K]`.
        confidence: Their ordinates, `[K]` in [0, 1].
        fitted_on: The images that it was fitted on.
    """

    log_prob: FloatArray
    confidence: FloatArray
    fitted_on: FittedOn
    name: ClassVar[str] = "isotonic"
    extra_forwards: ClassVar[float] = 0.0

    def __call__(self, evidence: Evidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1]."""
        return np.interp(evidence.column("log_prob", confidence=self.name), self.log_prob, self.confidence)


@dataclass(frozen=True)
class Isotonic:
    """Isotonic regression of the accuracy on the log-probability (Zadrozny and Elkan 2002; scikit-learn)."""

    name: ClassVar[str] = "isotonic"
    extra_forwards: ClassVar[float] = 0.0
    fitted: ClassVar[bool] = True

    def fit(self, train: Examples, validation: Examples) -> FittedIsotonic:
        """Fit the curve on the training examples."""
        from sklearn.isotonic import IsotonicRegression

        curve = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True)
        curve.fit(train.column("log_prob", confidence=self.name), train.accuracy)
        return FittedIsotonic(
            log_prob=curve.X_thresholds_,
            confidence=np.clip(curve.y_thresholds_, 0.0, 1.0),
            fitted_on=FittedOn.images(train.image_keys),
        )
