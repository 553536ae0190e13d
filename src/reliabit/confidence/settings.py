"""The settings of confidences: which estimators, and how each of them works."""

from dataclasses import dataclass, field
from typing import Any

from reliabit.confidence.estimator import ESTIMATORS, Estimator
from reliabit.errors import ReliabitError
from reliabit.inference.settings import FeatureSettings, SamplingSettings, SelfEvaluationPrompt
from reliabit.settings import MISSING, component, positive, to_settings


@dataclass
class SelectorSettings:
    """`confidence.selector`: the Selector of arXiv 2602.13289 in the form of Dancette et al. 2023, and its training.

    Attributes:
        inputs: What it reads, in this order: pooled states by the names of their blocks, and "maxprob".
        hidden: Units of each hidden layer.
        dropout: The probability of dropping a hidden unit in training.
        standardize: Whether inputs are brought to mean 0 and standard deviation 1 over the training examples; the
            published Selector does not, and the states of large models have channels a thousand times larger than
            the rest.
        learning_rate: AdamW's first learning rate; it falls linearly to 0 over all epochs. The published 1e-4 leaves
            6000 examples underfitted after 20 passes (synthetic states: AURC 0.078, with 1e-3 0.075, MaxProb 0.090).
        weight_decay: AdamW's weight decay.
        batch_size: Examples a step.
        epochs: Passes over the training examples, at most.
        patience: Passes without a better validation AURC after which training ends. The AURC wavers while the
            learning rate is high and settles as it falls; 5 passes ended trainings that had the best to come.
        gradient_clip: The largest norm of a step's gradient.
        seeds: Added to the run's seed: one Selector each; the first is used, the others say how much a training varies.
    """

    inputs: list[str] = field(
        default_factory=lambda: ["image", "question", "first", "maxprob"],
        metadata={"choices": ("image", "question", "first", "maxprob")},
    )
    hidden: list[int] = field(default_factory=lambda: [768, 768])
    dropout: float = 0.1
    standardize: bool = True
    learning_rate: float = positive(default=1e-3)
    weight_decay: float = 0.01
    batch_size: int = positive(default=256)
    epochs: int = positive(default=20)
    patience: int = positive(default=10)
    gradient_clip: float = positive(default=1.0)
    seeds: list[int] = field(default_factory=lambda: [0])

    def check(self, key: str) -> None:
        """Check the network and its regularization.

        Raises:
            ReliabitError: A value makes no sense, or no seed is named.
        """
        if not all(units >= 1 for units in self.hidden):
            raise ReliabitError(f"{key}.hidden={self.hidden} must have a unit in every layer")
        if not 0 <= self.dropout < 1:
            raise ReliabitError(f"{key}.dropout={self.dropout} must lie in [0, 1)")
        if self.weight_decay < 0:
            raise ReliabitError(f"{key}.weight_decay={self.weight_decay} must be at least 0")
        if not self.seeds:
            raise ReliabitError(f"{key}.seeds is empty; name at least one")


@dataclass
class ConfidenceConfig:
    """`confidence`: how sure the model is said to be.

    Attributes:
        name: How runs and reports call the choice.
        estimators: Which; `maxprob` is among them, as the others are compared with it.
        features: The states that are kept for estimators that read them.
        selector: For the Selectors.
        p_true: For `p_true`.
        sampling: For what agreement among sampled answers says.
        options: By estimator, the settings of any other one, of the class that it declares.
    """

    name: str = MISSING
    estimators: list[str] = component(ESTIMATORS)  # noqa: RUF009
    features: FeatureSettings = field(default_factory=FeatureSettings)
    selector: SelectorSettings = field(default_factory=SelectorSettings)
    p_true: SelfEvaluationPrompt = field(default_factory=SelfEvaluationPrompt)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def check(self, key: str) -> None:
        """Check that there is something to compare with, and the settings of estimators that bring their own.

        Raises:
            ReliabitError: `maxprob` is missing, or an estimator cannot be set so.
        """
        if "maxprob" not in self.estimators:
            raise ReliabitError(f"{key}.estimators lacks maxprob, which all others are compared with; add it")
        for name in {**self.options, **dict.fromkeys(self.estimators)}:
            self.settings_of(name)

    def chosen(self) -> list[Estimator]:
        """The estimators that are asked for."""
        return [ESTIMATORS[name] for name in self.estimators]

    def needs_training(self) -> bool:
        """Whether an estimator is trained, so that the training split must be asked."""
        return any(estimator.trained for estimator in self.chosen())

    def needs_features(self) -> bool:
        """Whether an estimator reads the states of the answering pass."""
        return any(estimator.features for estimator in self.chosen())

    def needed_columns(self) -> set[str]:
        """The columns of the predictions table that estimators read."""
        return {column for estimator in self.chosen() for column in estimator.columns}

    def settings_of(self, name: str) -> Any:
        """The settings of an estimator, of the class that it declares; `None` where it has none.

        Raises:
            ReliabitError: The estimator is unknown, or its settings are not what it takes.
        """
        schema, key = ESTIMATORS[name].settings, f"confidence.options.{name}"
        own = [value for value in vars(self).values() if schema is not None and isinstance(value, schema)]
        if schema is not None and not own:
            return to_settings(schema, self.options.get(name, {}), key=key, of=name)
        if name in self.options:
            raise ReliabitError(f"{key} is read by nothing; leave it out")
        return own[0] if own else None
