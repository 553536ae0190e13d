"""Logistic regression on soft targets, which Platt scaling and the logistic baseline share."""

from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.metrics.functional.inputs import FloatArray


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
