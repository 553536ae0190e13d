"""What answers depend on beside the questions: the model, how it is quantized and asked, code and libraries."""

import json
from hashlib import sha256
from pathlib import Path

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.digests import DigestCache, checkpoint_inputs, code_digests, library_versions
from reliabit.inference.features import FeatureSettings
from reliabit.tasks.calibrated import calibration_rows

ROOMS = ("data", "models", "quant", "inference", "tasks")
"""The rooms whose source answers depend on."""


def answering_identity(config: Config, *, features: FeatureSettings | None) -> str:
    """A digest of everything that decides an answer and its states but the question.

    Batches round differently, so their size is part of it; the number of threads is not, as in a run's fingerprint.
    """
    cache, mapping = DigestCache(Path(config.paths.cache) / "digests"), to_mapping(config)
    quant = {"method": "none"} if config.quant.method == "none" else without(mapping["quant"], "name")
    identity = {
        "model": checkpoint_inputs(Path(config.model.path), cache=cache),
        "asking": without(mapping["model"], "name", "path"),
        "quant": quant,
        "calibration": calibration_digest(config),
        "trainer": [config.trainer.accelerator, config.trainer.batch_size],
        "features": None if features is None else vars(features),
        "code": dict(code_digests(ROOMS)),
        "libraries": library_versions(),
    }
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def without(mapping: dict[str, object], *keys: str) -> dict[str, object]:
    """A mapping without some of its keys.

    >>> without({"a": 1, "b": 2}, "a")
    {'b': 2}
    """
    return {key: value for key, value in mapping.items() if key not in keys}


def calibration_digest(config: Config) -> str | None:
    """A digest of the questions, answers and images that a data-aware quantizer is calibrated on; `None` for others."""
    if config.quant.method == "none" or config.quant.scaling.search == "none":
        return None
    digest = sha256()
    for row in calibration_rows(config):
        digest.update(sha256(row["image"]).digest())
        digest.update(json.dumps({key: row[key] for key in sorted(row) if key != "image"}).encode())
    return digest.hexdigest()
