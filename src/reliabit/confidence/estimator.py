"""The one interface of all confidences: fit it, then ask it; each says what it costs."""

from typing import Protocol

from reliabit.confidence.examples import Evidence, Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.metrics.functional.inputs import FloatArray


class FittedEstimator(Protocol):
    """A confidence that can be asked."""

    @property
    def name(self) -> str:
        """What its column and metrics are called."""

    @property
    def extra_forwards(self) -> float:
        """Passes of the model beyond the answering one that a question costs; a whole generation counts as one."""

    @property
    def fitted_on(self) -> FittedOn | None:
        """The images that it was fitted on, None where it was not fitted."""

    def __call__(self, evidence: Evidence) -> FloatArray:
        """Confidences of answers, `[N]` in [0, 1], float64.

        Raises:
            ReliabitError: The evidence lacks what this confidence reads.
        """


class Estimator(Protocol):
    """A confidence before it is fitted; free ones are their own fitted ones."""

    @property
    def name(self) -> str:
        """What its column and metrics are called."""

    @property
    def extra_forwards(self) -> float:
        """See `FittedEstimator.extra_forwards`."""

    @property
    def fitted(self) -> bool:
        """Whether it needs training examples."""

    def fit(self, train: Examples, validation: Examples) -> FittedEstimator:
        """Learn from examples.

        Args:
            train: What sets the parameters.
            validation: What chooses among states, for estimators that have a choice; it shares no image with `train`.
        """
