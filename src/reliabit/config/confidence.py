"""`confidence`: how sure the model is said to be."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from reliabit.settings import choice, positive

ESTIMATORS = (
    "maxprob",
    "length_normalized",
    "first_token",
    "min_token",
    "entropy",
    "margin",
    "p_true",
    "self_consistency",
    "semantic_entropy",
    "platt",
    "isotonic",
    "logistic",
    "selector",
    "selector_transfer",
)
"""The confidence estimators; see `reliabit.confidence`."""


@dataclass
class FeaturesConfig:
    """Which states of the answering pass a Selector reads.

    Attributes:
        layer: A decoder layer, negative ones from the last; null for the state after the final norm.
        dtype: How they are stored.
    """

    layer: int | None = MISSING
    dtype: str = choice("float16", "float32")


@dataclass
class SelectorConfig:
    """The Selector and its training; see `reliabit.confidence.selector_training.SelectorSettings`.

    Attributes:
        inputs: Of the pooled states `image`, `question` and `first`, and `maxprob`.
        hidden: Widths of the two hidden layers.
        dropout: Share of hidden units that training drops.
        standardize: Scale every input by its mean and deviation on the training split.
        learning_rate: Its peak.
        weight_decay: AdamW's.
        batch_size: Examples a step.
        epochs: At most so many passes over the training split.
        patience: Epochs without a better validation AURC before training stops.
        gradient_clip: The largest norm of a step's gradient.
        seeds: One Selector is trained for each; the first is the one that is used.
    """

    inputs: list[str] = choice("image", "question", "first", "maxprob")  # noqa: RUF009
    hidden: list[int] = MISSING
    dropout: float = MISSING
    standardize: bool = MISSING
    learning_rate: float = positive()
    weight_decay: float = MISSING
    batch_size: int = positive()
    epochs: int = positive()
    patience: int = positive()
    gradient_clip: float = positive()
    seeds: list[int] = MISSING


@dataclass
class SelfEvaluationConfig:
    """The second prompt of P(True): a template with `{question}` and `{answer}`, and the two words to choose from."""

    template: str = MISSING
    right: str = MISSING
    wrong: str = MISSING


@dataclass
class SamplingConfig:
    """Sampled answers: how many a question, at which temperature."""

    samples: int = positive()
    temperature: float = positive()


@dataclass
class ConfidenceConfig:
    """How sure the model is said to be.

    Attributes:
        name: How runs and reports call the choice.
        estimators: Of `reliabit.confidence`, `maxprob` among them: the others are compared with it.
        features: For the Selector.
        selector: For the Selector.
        p_true: For `p_true`.
        sampling: For `self_consistency` and `semantic_entropy`.
    """

    name: str = MISSING
    estimators: list[str] = choice(*ESTIMATORS)  # noqa: RUF009
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    p_true: SelfEvaluationConfig = field(default_factory=SelfEvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
