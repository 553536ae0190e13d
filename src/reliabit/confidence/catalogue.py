"""All confidences by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from reliabit.confidence.estimator import Estimator
from reliabit.confidence.examples import Examples
from reliabit.confidence.logistic import Logistic
from reliabit.confidence.recalibration import Isotonic, Platt
from reliabit.confidence.scalar import FREE, p_true, self_consistency, semantic_entropy
from reliabit.confidence.selector_settings import SelectorSettings
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from reliabit.confidence.selector import TrainedSelector

NAMES = {
    "free": tuple(FREE),
    "extra passes": ("p_true", "self_consistency", "semantic_entropy"),
    "fitted": ("platt", "isotonic", "logistic", "selector"),
}
"""The names by what they need: nothing, further passes of the model, or training examples."""


@dataclass(frozen=True)
class EstimatorSettings:
    """What the confidences leave open.

    Attributes:
        selector: How the Selector is built and trained.
        seed: What the Selector's weights, batches and dropout are drawn with.
        samples: Answers sampled a question, for the confidences that sample.
        accelerator: Lightning's name of the device that trains the Selector.
        progress: Show the Selector's progress bar.
    """

    selector: SelectorSettings = field(default_factory=SelectorSettings)
    seed: int = 0
    samples: int = 10
    accelerator: str = "cpu"
    progress: bool = False


@dataclass(frozen=True)
class Selector:
    """The Selector as an estimator: one training with one seed."""

    settings: EstimatorSettings
    name: ClassVar[str] = "selector"
    extra_forwards: ClassVar[float] = 0.0
    fitted: ClassVar[bool] = True

    def fit(self, train: Examples, validation: Examples) -> "TrainedSelector":
        """Train on the training examples and keep the pass that ranks the validation examples best."""
        # torch and Lightning take seconds to import, which the other confidences need not wait for.
        from reliabit.confidence.selector_training import train_selector

        return train_selector(
            train,
            validation,
            settings=self.settings.selector,
            seed=self.settings.seed,
            accelerator=self.settings.accelerator,
            progress=self.settings.progress,
        )


def estimators(names: Sequence[str], *, settings: EstimatorSettings) -> list[Estimator]:
    """The estimators of these names, in this order.

    Raises:
        ReliabitError: A name is unknown or given twice.

    >>> chosen = estimators(["maxprob", "p_true", "platt"], settings=EstimatorSettings())
    >>> [(estimator.name, estimator.extra_forwards, estimator.fitted) for estimator in chosen]
    [('maxprob', 0.0, False), ('p_true', 1.0, False), ('platt', 0.0, True)]
    """
    known: list[Estimator] = [
        *FREE.values(),
        p_true(),
        self_consistency(samples=settings.samples),
        semantic_entropy(samples=settings.samples),
        Platt(),
        Isotonic(),
        Logistic(),
        Selector(settings),
    ]
    of_name = {estimator.name: estimator for estimator in known}
    for name in names:
        if name not in of_name:
            kinds = "; ".join(f"{kind}: {', '.join(members)}" for kind, members in NAMES.items())
            raise ReliabitError(f"there is no confidence {name!r}; choose among {kinds}")
    if len(set(names)) != len(names):
        raise ReliabitError(f"a confidence is named twice in {', '.join(names)}; name each once")
    return [of_name[name] for name in names]
