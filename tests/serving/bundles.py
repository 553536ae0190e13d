"""Bundles of the reference models, quantized, asked, certified and written as the tasks do; and what they must say."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from inference.answers import answer_table
from reliabit.confidence._selector_training import train_selectors
from reliabit.confidence.examples import examples_of
from reliabit.confidence.selector_store import save_selector
from reliabit.confidence.settings import SelectorSettings
from reliabit.inference.features import feature_writer, read_features
from reliabit.inference.predictions import NO_SHIFT, predictions_table
from reliabit.inference.settings import FeatureSettings
from reliabit.metrics import certify_threshold
from reliabit.models.families import find_adapter
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import Scheme, default_plan
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.folder import write_bundle

MODELS = Path(__file__).parents[2] / "models"
RISKS = (0.01, 0.1, 0.3)
MAX_NEW_TOKENS = 8


@dataclass(frozen=True)
class Offline:
    """What offline evaluation says of the model in a bundle.

    Attributes:
        bundle: The bundle.
        table: What was asked of `test`.
        answers: The answers to it.
        confidence: How sure each is.
    """

    bundle: Path
    table: Dataset
    answers: list[str]
    confidence: np.ndarray


@dataclass(frozen=True)
class Evaluated:
    """A quantized reference model and its answers to every split, with the states they were read from."""

    family: str
    checkpoint: Path
    table: Dataset
    predictions: pa.Table
    features: dict[str, np.ndarray]


def evaluate(family: str, splits: dict[str, Dataset], folder: Path) -> Evaluated:
    """Quantize a reference model to 4 bits a layer at a time, reload it, and ask it everything through a Trainer."""
    source, checkpoint = MODELS / f"{family}_tiny", folder / "checkpoint"
    plan = default_plan(Scheme(method="hqq", bits=4, group_size=32))
    quantize_checkpoint(source, checkpoint, plan, decoder_layers=find_adapter(family).decoder_layers)
    table = concatenate_datasets(
        [
            part.add_column("split", [name] * len(part)).add_column("shift", [NO_SHIFT] * len(part))
            for name, part in splits.items()
        ]
    )
    loaded = load_checkpoint(ModelConfig(path=str(checkpoint), family=family, dtype="float32", template="{question}"))
    keys = table.select_columns(["source", "split", "shift", "question_id"]).with_format("arrow")[:]
    with feature_writer(folder / "features", keys=keys, settings=FeatureSettings()) as writer:
        answers = answer_table(
            table,
            loaded,
            batch_size=16,
            max_new_tokens=MAX_NEW_TOKENS,
            accelerator="cpu",
            progress=False,
            features=writer,
        )
    predictions = predictions_table(table, answers)
    return Evaluated(
        family, checkpoint, table, predictions, read_features(folder / "features", predictions=predictions)
    )


def bundled(
    evaluated: Evaluated, folder: Path, *, confidence: str, name: str = "tiny·hqq·4b·s0", seed: int = 0
) -> Offline:
    """Train the confidence, certify it and write the bundle."""
    splits = np.array(evaluated.table["split"])
    parts = {split: np.flatnonzero(splits == split) for split in ("dev", "val", "cal", "test")}
    examples = {split: _examples(evaluated, rows) for split, rows in parts.items()}
    selector = None
    if confidence == "selector":
        settings = SelectorSettings(hidden=(16,), epochs=3, standardize=True, learning_rate=1e-2)
        [trained] = train_selectors(examples["dev"], examples["val"], settings=settings, seeds=[seed])
        selector = folder.parent / f".selector-{folder.name}"
        save_selector(trained, selector)
        said = {split: trained(found) for split, found in examples.items()}
    else:
        said = {split: np.exp(found.columns["log_prob"]) for split, found in examples.items()}
    accuracy = {split: found.accuracy for split, found in examples.items()}
    certificates = [
        certify_threshold(said["val"], accuracy["val"], said["cal"], accuracy["cal"], risk, 0.1) for risk in RISKS
    ]
    write_bundle(
        folder,
        description=Description(
            name=name,
            family=evaluated.family,
            dtype="float32",
            template="{question}",
            max_new_tokens=MAX_NEW_TOKENS,
            batch_size=8,
            confidence=confidence,
            certificates=tuple(certificates),
            default_risk=0.1,
            run_id="0123456789abcdef",
            fingerprint="f" * 64,
            inputs={"easy_vqa": "d" * 32},
        ),
        checkpoint=evaluated.checkpoint,
        selector=selector,
        calibration=(said["cal"], accuracy["cal"]),
        card="# A model card\n",
    )
    rows = parts["test"]
    answers = evaluated.predictions["answer"].take(rows).to_pylist()
    return Offline(folder, evaluated.table.select(rows), answers, said["test"])


def _examples(evaluated: Evaluated, rows: np.ndarray):
    features = {name: block[rows] for name, block in evaluated.features.items()}
    return examples_of(evaluated.predictions.take(rows), features=features)
