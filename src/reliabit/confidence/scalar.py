"""Confidences that are a formula of an answer's scalars: MaxProb and its kin, and those that were asked or sampled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reliabit.confidence.examples import Evidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.metrics.functional.inputs import FloatArray


@dataclass(frozen=True)
class Scalar:
    """A confidence that is a formula of columns.

    Attributes:
        name: What it is called.
        columns: What it reads.
        formula: From these columns, in this order, to confidences, each `[N]`.
        extra_forwards: See `Estimator`.
    """

    name: str
    columns: tuple[str, ...]
    formula: Callable[..., FloatArray]
    extra_forwards: float = 0.0

    fitted: ClassVar[bool] = False
    fitted_on: ClassVar[FittedOn | None] = None

    def fit(self, train: Examples, validation: Examples) -> "Scalar":
        """Nothing to learn: itself."""
        return self

    def __call__(self, evidence: Evidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1].

        Raises:
            ReliabitError: A column is missing.

        >>> MAXPROB(Evidence(columns={"log_prob": np.log([0.72])})).round(6)
        array([0.72])
        """
        values = (evidence.column(name, confidence=self.name) for name in self.columns)
        return np.clip(self.formula(*values), 0.0, 1.0)


def _as_it_is(values: FloatArray) -> FloatArray:
    return values


def _inverse_perplexity(entropy: FloatArray) -> FloatArray:
    """exp(-H): the inverse of the effective number of alternatives, whatever their real number is."""
    return np.exp(-entropy)


def _geometric_mean(log_prob: FloatArray, n_tokens: FloatArray) -> FloatArray:
    return np.exp(log_prob / n_tokens)


MAXPROB = Scalar("maxprob", ("log_prob",), np.exp)
"""The joint probability of all tokens of the answer, its end included (arXiv 2602.13289)."""

FREE: Mapping[str, Scalar] = {
    scalar.name: scalar
    for scalar in (
        MAXPROB,
        Scalar("length_normalized", ("log_prob", "n_tokens"), _geometric_mean),
        Scalar("first_token", ("first_token_prob",), _as_it_is),
        Scalar("min_token", ("min_token_prob",), _as_it_is),
        Scalar("entropy", ("first_token_entropy",), _inverse_perplexity),
        Scalar("margin", ("first_token_margin",), _as_it_is),
    )
}
"""Confidences that the answering pass gives for free, by name; `entropy` is exp(-H) of the first token."""


def p_true() -> Scalar:
    """P(True): the model judges its own answer in a second prompt (Kadavath et al. 2022), one pass."""
    return Scalar("p_true", ("p_true",), _as_it_is, extra_forwards=1.0)


def self_consistency(*, samples: int) -> Scalar:
    """The share of sampled answers that agree with the greedy one (Wang et al. 2023), one pass a sample."""
    return Scalar("self_consistency", ("self_consistency",), _as_it_is, extra_forwards=float(samples))


def semantic_entropy(*, samples: int) -> Scalar:
    """exp(-H) of the entropy H over the meanings of sampled answers (Kuhn et al. 2023), one pass a sample.

    It may share its samples with `self_consistency`; each states its cost as if it were alone.
    """
    return Scalar("semantic_entropy", ("semantic_entropy",), _inverse_perplexity, extra_forwards=float(samples))
