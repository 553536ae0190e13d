"""Confidence that looks at the image: by how much seeing it made the model surer of its answer.

After VAUQ (arXiv 2602.21054), whose score is an uncertainty, `H - weight * (H_masked - H)`, the mean entropy `H` of the
answer's tokens and that entropy once more with the image masked. Ours: the whole image is blank where VAUQ masks what
attention looks at most; the negated score goes through a sigmoid, which keeps its order and lies in [0, 1], but is no
probability; and the surprisal of the answer may stand in the entropy's place.
"""

from dataclasses import dataclass

import numpy as np

from reliabit.confidence.estimator import UNSET, Estimator, Fitting, register
from reliabit.confidence.estimators.regressions import sigmoid
from reliabit.confidence.examples import AnswerEvidence, Examples
from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.settings import choice


@dataclass
class ImageInformationSettings:
    """`confidence.options.image_information`.

    Attributes:
        uncertainty: `entropy`: of the model's distribution, on average over the answer's tokens; `surprisal`: of these
            tokens themselves, their mean negative log-probability.
        weight: Of the image's information against the uncertainty that remains; 0 leaves the image out.
    """

    uncertainty: str = choice("entropy", "surprisal", default="entropy")
    weight: float = 0.5

    def check(self, key: str) -> None:
        """Check the weight.

        Raises:
            ReliabitError: It is negative, or no number.
        """
        if not 0 <= self.weight < np.inf:
            raise ReliabitError(f"{key}.weight={self.weight} must be at least 0, and finite")


@dataclass(frozen=True)
class ImageInformation(Estimator):
    """A formula of the answering pass's and the blank pass's scalars: it needs no fitting.

    Attributes:
        how: Its settings.
    """

    how: ImageInformationSettings

    name = "image_information"
    columns = ("log_prob", "n_tokens", "mean_entropy", "blank_log_prob", "blank_mean_entropy")
    trained = False
    settings = ImageInformationSettings
    extra_forwards = 1.0
    fitted_on = None

    def fit(
        self, train: Examples | None = None, validation: Examples | None = None, fitting: Fitting = UNSET
    ) -> "list[ImageInformation]":
        """Nothing to learn: itself, as its settings say."""
        return [ImageInformation(fitting.settings or self.how)]

    def __call__(self, evidence: AnswerEvidence) -> FloatArray:
        """Confidences, `[N]` in [0, 1].

        Raises:
            ReliabitError: A column is missing.

        >>> names = ("log_prob", "n_tokens", "mean_entropy", "blank_log_prob", "blank_mean_entropy")
        >>> seen = AnswerEvidence(columns=dict(zip(names, np.array([[-0.2], [2], [0.1], [-4], [1.5]]))))
        >>> ImageInformation(ImageInformationSettings(weight=1.0))(seen).round(4)  # 1 / (1 + exp(.1 - (1.5 - .1)))
        array([0.7858])
        """
        log_prob, n_tokens, entropy, blank_log_prob, blank_entropy = (
            evidence.column(name, confidence=self.name) for name in self.columns
        )
        uncertainty, blank = entropy, blank_entropy
        if self.how.uncertainty == "surprisal":
            uncertainty, blank = -log_prob / n_tokens, -blank_log_prob / n_tokens
        return sigmoid(self.how.weight * (blank - uncertainty) - uncertainty)


register(ImageInformation(ImageInformationSettings()))
