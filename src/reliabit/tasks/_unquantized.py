"""The unquantized model's answers to the training questions: what a transferred Selector learns from."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.confidence.estimators.selectors import SELECTOR
from reliabit.config import Config
from reliabit.inference.features import read_features
from reliabit.quant.settings import QuantConfig
from reliabit.tasks._asked_questions import CHOOSING_SPLIT, TRAINING_SPLIT
from reliabit.tasks.answer import answer_as_configured

if TYPE_CHECKING:
    import pyarrow as pa

    from reliabit.confidence.examples import FeatureBlocks


def unquantized_answers(config: Config, *, features: Path) -> "tuple[pa.Table, FeatureBlocks]":
    """Answers and features of the unquantized model on the splits that train and choose a Selector.

    In a sweep the unquantized cell has asked them already, and nothing is answered again; features are gathered in a
    folder.
    """
    ask = {split: config.data.ask.get(split) for split in (TRAINING_SPLIT, CHOOSING_SPLIT)}
    own = replace(
        config,
        quant=QuantConfig(name="none", method="none", bits=None, group_size=None),
        data=replace(config.data, ask=ask, shifts=[]),
        other_data={},
        confidence=replace(config.confidence, estimators=[SELECTOR.name]),
    )
    # The quantized model was asked these already, and what it does not take was listed then.
    _, answered = answer_as_configured(own, features=features, listed_in=None)
    return answered.predictions, read_features(features, predictions=answered.predictions)
