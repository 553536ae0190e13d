"""Confidences that are a formula of an answer's scalars: MaxProb and its kin, and those that were asked or sampled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from reliabit.confidence.estimator import UNSET, Estimator, Fitting, register
from reliabit.confidence.examples import AnswerEvidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.inference.settings import SamplingSettings
from reliabit.metrics.functional.inputs import FloatArray


@dataclass(frozen=True)
class Formula(Estimator):
    """A confidence that is a formula of columns: it needs no fitting.

    Attributes:
        name: What it is called.
        columns: What it reads.
        formula: From these columns, in this order, to confidences, each `[N]`.
        extra_forwards: See `FittedEstimator`; where answers are sampled, one a sample.
        settings: See `Estimator`.
    """

    name: str
    columns: tuple[str, ...]
    formula: Callable[..., FloatArray]
    extra_forwards: float = 0.0
    settings: type | None = None

    trained = False
    fitted_on: ClassVar[FittedOn | None] = None

    def fit(
        self, train: Examples | None = None, validation: Examples | None = None, fitting: Fitting = UNSET
    ) -> "list[Formula]":
        """Nothing to learn: itself, at the cost that its settings make."""
        sampled = isinstance(fitting.settings, SamplingSettings)
        return [replace(self, extra_forwards=float(fitting.settings.samples)) if sampled else self]

    def __call__(self, evidence: AnswerEvidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1].

        Raises:
            ReliabitError: A column is missing.

        >>> MAXPROB(AnswerEvidence(columns={"log_prob": np.log([0.72])})).round(6)
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


MAXPROB = register(Formula("maxprob", ("log_prob",), np.exp))
"""The joint probability of all tokens of the answer, its end included (arXiv 2602.13289)."""

register(Formula("length_normalized", ("log_prob", "n_tokens"), _geometric_mean))
register(Formula("first_token", ("first_token_prob",), _as_it_is))
register(Formula("min_token", ("min_token_prob",), _as_it_is))
# exp(-H) of the first token.
register(Formula("entropy", ("first_token_entropy",), _inverse_perplexity))
# The same over the alternatives that an engine tells (`reliabit.engines`), all others as one.
register(Formula("top_entropy", ("top_entropy",), _inverse_perplexity))
register(Formula("margin", ("first_token_margin",), _as_it_is))
# The model judges its own answer in a second prompt (Kadavath et al. 2022), one pass.
register(Formula("p_true", ("p_true",), _as_it_is, extra_forwards=1.0))
# The share of sampled answers that agree with the greedy one (Wang et al. 2023).
register(Formula("self_consistency", ("self_consistency",), _as_it_is, settings=SamplingSettings))
# exp(-H) of the entropy H over the meanings of sampled answers (Kuhn et al. 2023). It may share its samples with
# `self_consistency`; each states its cost as if it were alone.
register(Formula("semantic_entropy", ("semantic_entropy",), _inverse_perplexity, settings=SamplingSettings))
