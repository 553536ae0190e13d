"""Regressions of the accuracy on an answer's scalars.

Platt scaling and isotonic regression recalibrate MaxProb: the same ranking with honest probabilities. Neither can
change a selective metric, but for the ties that isotonic regression makes. They are the control for the Selector: what
it gains in calibration only, they gain too. Logistic regression on all scalars is what a Selector without hidden states
can do.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reliabit.confidence.estimator import UNSET, Estimator, Fitting, register
from reliabit.confidence.examples import SCALARS, AnswerEvidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.metrics.functional.inputs import FloatArray

# The log-probability above which exp of it is 1; its log-odds are 37.
SUREST = -(2.0**-53)


def fit_soft_logistic(
    inputs: npt.NDArray[Any], accuracy: FloatArray, *, inverse_ridge: float
) -> tuple[FloatArray, float]:
    """Minimize the cross-entropy between sigmoid(inputs @ weights + bias) and accuracies (scikit-learn).

    Each answer counts as right with the weight of its accuracy and as wrong with the rest. Accuracies are drawn
    inwards as Platt 1999 does, from a to a (n1 + 1)/(n1 + 2) + (1 - a)/(n0 + 2) with n1 = sum a and n0 = N - n1, so
    that the optimum is finite also where all answers are right.

    Args:
        inputs: `[N, k]`, of comparable scales.
        accuracy: `[N]` in [0, 1].
        inverse_ridge: The weights' penalty is sum w^2 / (2 inverse_ridge), against the summed cross-entropy.

    Returns:
        The weights `[k]` and the bias.

    >>> weights, bias = fit_soft_logistic(np.zeros((5, 1)), np.array([0, 0.3, 0.6, 0.9, 1]), inverse_ridge=1.0)
    >>> round(float(sigmoid(np.array(bias))), 6)
    0.548095
    """
    from sklearn.linear_model import LogisticRegression

    right = drawn_inwards(accuracy)
    model = LogisticRegression(C=inverse_ridge, solver="newton-cholesky", tol=1e-8, max_iter=200)
    model.fit(
        np.concatenate([inputs, inputs]),
        np.repeat([1, 0], len(accuracy)),
        sample_weight=np.concatenate([right, 1 - right]),
    )
    return np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


def drawn_inwards(accuracy: FloatArray) -> FloatArray:
    """The targets that `fit_soft_logistic` aims at, `[N]` in (0, 1)."""
    right = accuracy.sum()
    wrong = len(accuracy) - right
    return np.asarray(accuracy * (right + 1) / (right + 2) + (1 - accuracy) / (wrong + 2))


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def log_odds(log_prob: FloatArray) -> FloatArray:
    """log(p / (1 - p)) of log p, exact also where p rounds to 1.

    >>> log_odds(np.log([0.5, 0.9])).round(6)
    array([0.      , 2.197225])
    """
    bounded = np.minimum(log_prob, SUREST)
    return np.asarray(bounded - np.log(-np.expm1(bounded)))


@dataclass(frozen=True, eq=False)
class FittedLogistic:
    """sigmoid(inputs @ weights + bias), of the inputs as they are.

    Attributes:
        regression: What was fitted; it gives the inputs.
        weights: `[k]`.
        bias: A number.
        fitted_on: The images that it was fitted on.
    """

    regression: "SoftLogistic"
    weights: FloatArray
    bias: float
    fitted_on: FittedOn
    extra_forwards: ClassVar[float] = 0.0

    @property
    def name(self) -> str:
        """The regression's."""
        return self.regression.name

    def __call__(self, evidence: AnswerEvidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1]."""
        return sigmoid(self.regression.inputs(evidence) @ self.weights + self.bias)


class SoftLogistic(Estimator):
    """Logistic regression with soft targets on standardized inputs.

    Attributes:
        inverse_ridge: See `fit_soft_logistic`.
        rising: Whether no weight may be negative; there is one then.
    """

    inverse_ridge: float
    rising = False

    @abstractmethod
    def inputs(self, evidence: AnswerEvidence) -> FloatArray:
        """What is regressed on, `[N, k]`."""

    def fit(self, train: Examples, validation: Examples, fitting: Fitting = UNSET) -> list[FittedLogistic]:
        """Fit the weights on the training examples."""
        inputs, fitted_on = self.inputs(train), FittedOn.images(train.image_keys)
        mean = inputs.mean(0)
        # Rounding gives a constant column a standard deviation, but no range.
        scale = np.where(np.ptp(inputs, axis=0) > 0, inputs.std(0), 1.0)
        weights, bias = fit_soft_logistic((inputs - mean) / scale, train.accuracy, inverse_ridge=self.inverse_ridge)
        if self.rising and weights[0] < 0:
            # Where surer answers are worse, the best rising curve is a constant.
            share = float(drawn_inwards(train.accuracy).mean())
            return [FittedLogistic(self, np.zeros(1), float(np.log(share / (1 - share))), fitted_on)]
        weights = weights / scale
        return [FittedLogistic(self, weights, bias - float(weights @ mean), fitted_on)]


@dataclass(frozen=True)
class Platt(SoftLogistic):
    """Platt scaling of MaxProb's log-odds with soft targets (Platt 1999); with weight 1 and bias 0 it is MaxProb.

    Log-odds, because the family then holds MaxProb itself. A sigmoid of the log-probability does not: it cannot come
    near 1 where p does, and on the reference model's answers it tripled the calibration error that it should mend
    (ECE 0.010 to 0.031; by log-odds 0.013).
    """

    # Enough to keep the Newton step solvable where all probabilities are equal, too little to be seen in a slope.
    inverse_ridge: float = 1e6
    name = "platt"
    columns = ("log_prob",)
    rising = True

    def inputs(self, evidence: AnswerEvidence) -> FloatArray:
        """MaxProb's log-odds, `[N, 1]`."""
        return log_odds(evidence.column("log_prob", confidence=self.name))[:, None]


@dataclass(frozen=True)
class Logistic(SoftLogistic):
    """Logistic regression with soft targets on the standardized `SCALARS` (scikit-learn).

    Attributes:
        inverse_ridge: See `fit_soft_logistic`. Scalars of short answers are nearly collinear, and the penalty of 1
            keeps their weights apart; thousands of examples outweigh it.
    """

    inverse_ridge: float = 1.0
    name = "logistic"
    columns = SCALARS

    def inputs(self, evidence: AnswerEvidence) -> FloatArray:
        """The scalars, `[N, 6]`."""
        return np.stack([evidence.column(name, confidence=self.name) for name in SCALARS], axis=1)


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

    def __call__(self, evidence: AnswerEvidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1]."""
        return np.interp(evidence.column("log_prob", confidence=self.name), self.log_prob, self.confidence)


class Isotonic(Estimator):
    """Isotonic regression of the accuracy on the log-probability (Zadrozny and Elkan 2002; scikit-learn)."""

    name = "isotonic"
    columns = ("log_prob",)

    def fit(self, train: Examples, validation: Examples, fitting: Fitting = UNSET) -> list[FittedIsotonic]:
        """Fit the curve on the training examples."""
        from sklearn.isotonic import IsotonicRegression

        curve = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True)
        curve.fit(train.column("log_prob", confidence=self.name), train.accuracy)
        fitted_on = FittedOn.images(train.image_keys)
        return [FittedIsotonic(curve.X_thresholds_, np.clip(curve.y_thresholds_, 0.0, 1.0), fitted_on)]


register(Platt())
register(Isotonic())
register(Logistic())
