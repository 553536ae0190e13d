"""What answers depend on beside the questions: the model, how it is quantized and asked, code and libraries."""

import json
from hashlib import sha256
from pathlib import Path

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.data.prepare import prepare
from reliabit.digests import DigestCache, checkpoint_inputs, code_digests, library_versions, table_inputs
from reliabit.inference.features import FeatureSettings
from reliabit.tasks.questions import source_spec

ROOMS = ("data", "models", "quant", "inference")
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
        "calibration": _calibration(config, cache),
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


def _calibration(config: Config, cache: DigestCache) -> dict[str, str] | None:
    """What a data-aware quantizer was calibrated on."""
    wanted = config.quant.calibration
    if config.quant.method == "none" or config.quant.scaling.search == "none":
        return None
    if wanted.chat is not None:
        return {"chat": cache.sha256(Path(wanted.chat))}
    folder = prepare(source_spec(config.data), root=Path(config.paths.data))
    return table_inputs(folder, cache=cache, name="calibration")
