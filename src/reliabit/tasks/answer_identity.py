"""What answers and encoded questions depend on beside the questions: the model, how it is asked, code, libraries."""

import json
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.digests import DigestCache, checkpoint_inputs, code_digests, library_versions
from reliabit.inference.settings import FeatureSettings
from reliabit.models.spread import tensors_of
from reliabit.quant.module_names import component_of
from reliabit.tasks.calibration_rows import calibration_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ANSWERING = ("reliabit.tasks.answered_chunks", "reliabit.tasks.quantized", "reliabit.tasks.runtime")
"""The modules that answer a chunk of questions: they ask the model, load and quantize it, and set up what computes."""

ANSWERING_BY_VALUE = ("reliabit.tasks.calibration_rows",)
"""The questions that a quantizer learns from are in the identity themselves (`calibration_digest`)."""


HOW_ANSWERED = ("accelerator", "batch_size", "device_map", "device_memory", "host_memory")
"""What of `trainer` answers depend on, if only by rounding."""


def answering_identity(config: Config, *, features: FeatureSettings | None) -> str:
    """A digest of everything that decides an answer and its states but the question.

    Batches round differently, so their size is part of it; the number of threads is not, as in a run's fingerprint.
    """
    cache, mapping = DigestCache(Path(config.paths.cache) / "digests"), to_mapping(config)
    quant = {"method": "none"} if config.quant.method == "none" else without(mapping["quant"], "name")
    identity = {
        "model": checkpoint_inputs(Path(config.model.path), cache=cache),
        "asking": without(mapping["model"], "name", "path", "revision", "download"),
        "quant": quant,
        "calibration": calibration_digest(config),
        # Answers of a spread model come at another cost, which is kept beside them; what of it lies off the devices has
        # no kernels, which shows in half types.
        "trainer": {key: getattr(config.trainer, key) for key in HOW_ANSWERED},
        "features": None if features is None else vars(features),
        "code": code_digests(ANSWERING, by_value=ANSWERING_BY_VALUE),
        "libraries": library_versions(),
        "kernels": _kernels_here(config),
    }
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


ENCODING = ("reliabit.tasks.encoded_chunks", "reliabit.inference.encoded_store")
"""The modules that encode a chunk of questions and see its images, and that keep what comes of it."""

SEEING = ("vision", "connector")
"""The components that see."""

DECODER_FILES = ("config.json", "generation_config.json", "training.json", "README.md", "*.safetensors*")
"""Files of a checkpoint that say nothing of how questions are encoded."""


def encoding_identity(config: Config, model: "PreTrainedModel") -> str:
    """A digest of everything that decides how questions are encoded and what is seen, but the questions.

    The weights that see are hashed as they are, quantized or not, so that every plan that leaves them alone shares.
    """
    cache, folder = DigestCache(Path(config.paths.cache) / "digests"), Path(config.model.path)
    identity = {
        "files": cache.files(folder, wanted=lambda path: not any(fnmatch(path.name, name) for name in DECODER_FILES)),
        "model": {key: value for key, value in model.config.to_dict().items() if key not in QUANTIZATION_KEYS},
        "weights": _weights_digest(model),
        "asking": {key: getattr(config.model, key) for key in ("family", "template", "dtype", "max_pixels")},
        "trainer": [config.trainer.accelerator, config.trainer.batch_size],
        "code": code_digests(ENCODING),
        "libraries": library_versions(),
        "kernels": _kernels_here(config),
    }
    return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


QUANTIZATION_KEYS = ("quantization_config", "_name_or_path")


def _weights_digest(model: "PreTrainedModel") -> str:
    import torch

    digest = sha256()
    for name, tensor in tensors_of(model):
        if component_of(name) in SEEING:
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _kernels_here(config: Config) -> list[str]:
    import torch

    from reliabit.quant.kernels.dispatch import kernels_here

    return kernels_here(getattr(torch, config.model.dtype))


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
