"""What a confidence estimator is, and all of them by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reliabit.components import Components

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from reliabit.confidence.examples import AnswerEvidence, Examples
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
    def fitted_on(self) -> "FittedOn | None":
        """The images that it was fitted on, None where it was not fitted."""

    def __call__(self, evidence: "AnswerEvidence") -> "FloatArray":
        """Confidences of answers, `[N]` in [0, 1], float64.

        Raises:
            ReliabitError: The evidence lacks what this confidence reads.
        """


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How an estimator is fitted, beside its examples.

    Attributes:
        settings: What the configuration says, of the class that the estimator declares.
        seed: Seeds whatever the training draws.
        accelerator: Lightning's name of the device that trains.
        progress: Show a progress bar.
        logger_of: Gives the logger of a training by the estimator's name.
    """

    settings: Any = None
    seed: int = 0
    accelerator: str = "cpu"
    progress: bool = False
    logger_of: "Callable[[str], Logger] | None" = None


UNSET = Fitting()
"""Nothing is said beside the examples."""


class Estimator(ABC):
    """A confidence before it is fitted. Each is registered by its name, with what it needs.

    Attributes:
        name: What its column and metrics are called.
        columns: The columns of the predictions table that it reads; `EXTRA_SCALARS` cost further passes of the model.
        features: Whether it reads the pooled states of the answering pass.
        trained: Whether it needs training examples.
        unquantized: Whether those are the unquantized model's answers.
        settings: The class of its settings: that of a key of `confidence`, or else of `confidence.options.<name>`.
    """

    name: str
    columns: tuple[str, ...]
    features: bool = False
    trained: bool = True
    unquantized: bool = False
    settings: type | None = None

    @abstractmethod
    def fit(self, train: "Examples", validation: "Examples", fitting: Fitting = UNSET) -> Sequence[FittedEstimator]:
        """Learn from examples.

        Args:
            train: What sets the parameters.
            validation: What chooses among states, for estimators that have a choice; it shares no image with `train`.
            fitting: The rest.

        Returns:
            One, or one a seed where the settings name several; the first is the one that is used.
        """


ESTIMATORS = Components[Estimator](
    "confidence estimator", package="reliabit.confidence.estimators", entry_points="reliabit.confidences"
)

E = TypeVar("E", bound=Estimator)


def register(estimator: E) -> E:
    """Make an estimator known by its name."""
    ESTIMATORS.register(estimator.name)(estimator)
    return estimator
