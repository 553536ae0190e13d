"""The unquantized model's answers to the training questions: what a transferred Selector learns from, made once."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config, QuantConfig
from reliabit.data.prepare import prepare, read_manifest, sha256
from reliabit.files import staged_folder
from reliabit.inference.features import FEATURES, read_features
from reliabit.inference.predictions import PREDICTIONS, read_predictions, write_predictions
from reliabit.tasks.answer import answer_questions
from reliabit.tasks.estimators import SELECTOR
from reliabit.tasks.quantized import load_quantized
from reliabit.tasks.questions import CHOOSING_SPLIT, TRAINING_SPLIT, load_questions, source_spec

if TYPE_CHECKING:
    import pyarrow as pa

    from reliabit.confidence.examples import FeatureBlocks

VERSION = 1
"""Raised when the same model would answer the same questions otherwise."""


def unquantized_answers(config: Config) -> "tuple[pa.Table, FeatureBlocks]":
    """Answers and features of the unquantized model on the splits that train and choose a Selector.

    They are kept below `paths.cache` under a name that says what they depend on, and made by the first process that
    needs them while the others wait.
    """
    from filelock import FileLock

    own = _unquantized(config)
    folder = Path(config.paths.cache) / "unquantized" / _key(own)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _answer(own, folder)
    predictions = read_predictions(folder / PREDICTIONS)
    return predictions, read_features(folder / FEATURES, predictions=predictions)


def _unquantized(config: Config) -> Config:
    ask = {split: config.data.ask.get(split) for split in (TRAINING_SPLIT, CHOOSING_SPLIT)}
    return replace(
        config,
        quant=QuantConfig(name="none", method="none", bits=None, group_size=None),
        data=replace(config.data, ask=ask, shifts=[]),
        other_data={},
        confidence=replace(config.confidence, estimators=[SELECTOR]),
    )


def _answer(config: Config, folder: Path) -> None:
    questions = load_questions(config, training=True)
    with staged_folder(folder) as staging:
        answered = answer_questions(config, load_quantized(config), questions, features=staging / FEATURES)
        write_predictions(answered.predictions, staging / PREDICTIONS)


def _key(config: Config) -> str:
    table = prepare(source_spec(config.data), root=Path(config.paths.data))
    model = Path(config.model.path)
    identity = {
        "version": VERSION,
        "weights": {file.name: sha256(file) for file in sorted(model.glob("*.safetensors"))},
        "asking": {key: value for key, value in vars(config.model).items() if key not in ("name", "path")},
        "questions": {split: record.sha256 for split, record in read_manifest(table).items()},
        "ask": config.data.ask,
        "one_question_an_image": config.data.one_question_an_image,
        "features": vars(config.confidence.features),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
