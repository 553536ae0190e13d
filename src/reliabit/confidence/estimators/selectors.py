"""The Selector as an estimator: trained on a configuration's own answers, or on those of the unquantized model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.confidence.estimator import UNSET, Estimator, Fitting, register
from reliabit.confidence.examples import Examples
from reliabit.confidence.settings import SelectorSettings

if TYPE_CHECKING:
    from reliabit.confidence.selector import TrainedSelector


@dataclass(frozen=True)
class Selector(Estimator):
    """A network on the states of the answering pass; one training a seed."""

    name: str
    unquantized: bool = False
    columns = ("log_prob",)
    features = True
    settings = SelectorSettings

    def fit(self, train: Examples, validation: Examples, fitting: Fitting = UNSET) -> "list[TrainedSelector]":
        """Train on the training examples, and keep the pass that ranks the validation examples best."""
        # torch and Lightning take seconds to import, which the other confidences need not wait for.
        from reliabit.confidence._selector_training import train_selectors

        settings = fitting.settings or SelectorSettings()
        return train_selectors(
            train,
            validation,
            settings=settings,
            seeds=[fitting.seed + number for number in settings.seeds],
            accelerator=fitting.accelerator,
            progress=fitting.progress,
            logger=fitting.logger_of(self.name) if fitting.logger_of is not None else None,
        )


SELECTOR = register(Selector("selector"))
register(Selector("selector_transfer", unquantized=True))
