"""Which confidence estimators a configuration asks for, and what they need."""

from reliabit.confidence.catalogue import NAMES, EstimatorSettings
from reliabit.confidence.selector_settings import SelectorSettings
from reliabit.config import ConfidenceConfig, Config

SELECTOR = "selector"
TRANSFER = "selector_transfer"
"""The Selector trained on the configuration's own answers, and the one trained on those of the unquantized model."""

SELECTORS = (SELECTOR, TRANSFER)


def needs_training(confidence: ConfidenceConfig) -> bool:
    """Whether an estimator is trained, so that the training split must be asked."""
    return bool({*NAMES["fitted"], *SELECTORS} & set(confidence.estimators))


def needs_features(confidence: ConfidenceConfig) -> bool:
    """Whether an estimator reads the states of the answering pass."""
    return bool(set(SELECTORS) & set(confidence.estimators))


def selector_settings(confidence: ConfidenceConfig) -> SelectorSettings:
    """How Selectors are built and trained."""
    own = {key: value for key, value in vars(confidence.selector).items() if key != "seeds"}
    own["inputs"], own["hidden"] = tuple(own["inputs"]), tuple(own["hidden"])
    return SelectorSettings(**own)


def estimator_settings(config: Config) -> EstimatorSettings:
    """What the other estimators leave open."""
    return EstimatorSettings(selector=selector_settings(config.confidence), samples=config.confidence.sampling.samples)
