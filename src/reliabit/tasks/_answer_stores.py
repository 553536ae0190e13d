"""Where the answers of a configuration are kept, what they are known by, and how several processes fill the store.

Answers and encoded questions depend on more than the questions: on the model, how it is asked, code and libraries. On
several devices each process loads the model on one of its own and answers whichever chunks nobody else is answering, so
devices of different speed end together, and a process that dies loses one chunk. Nothing is sent from one to another.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache
from hashlib import sha256
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.config_errors import in_one_line
from reliabit.digests import DigestCache, checkpoint_inputs, code_digests, library_versions
from reliabit.errors import ReliabitError
from reliabit.inference.answer_store import AnswerStore
from reliabit.inference.settings import FeatureSettings, TrainerConfig
from reliabit.models.spread import tensors_of
from reliabit.progress import step
from reliabit.quant.module_names import component_of
from reliabit.tasks._calibration_rows import calibration_digest
from reliabit.tasks._model import QuantizedCheckpoint, chunk_answerer, load_quantized

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from datasets import Dataset
    from transformers import PreTrainedModel

    from reliabit.inference.answer_store import ChunkAnswerer
    from reliabit.inference.encoded_store import EncodedStore

CHUNK_BATCHES = 16
"""Batches a chunk: so much a killed run may lose."""

ANSWERING = ("reliabit.tasks._model", "reliabit.tasks.runtime")
"""The modules that answer a chunk of questions: they load the model, quantize and ask it, and set up what computes."""

ANSWERING_BY_VALUE = ("reliabit.tasks._calibration_rows",)
"""The questions that a quantizer learns from are in the identity themselves (`calibration_digest`)."""

HOW_ANSWERED = ("accelerator", "batch_size", "device_map", "device_memory", "host_memory")
"""What of `trainer` answers depend on, if only by rounding."""

ENCODING = ("reliabit.inference.encoded_store",)
"""The module that encodes a chunk of questions, runs the vision tower on its images, and keeps what comes of it."""

VISION = ("vision", "connector")
"""The components that encode images."""

DECODER_FILES = ("config.json", "generation_config.json", "training.json", "README.md", "*.safetensors*")
"""Files of a checkpoint that say nothing of how questions are encoded."""

QUANTIZATION_KEYS = ("quantization_config", "_name_or_path")

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0


def answer_store(config: Config) -> AnswerStore:
    """Where the answers of a configuration are kept, under a digest of everything they depend on."""
    features = None
    if config.confidence.needs_features():
        features = FeatureSettings(layer=config.confidence.features.layer, dtype=config.confidence.features.dtype)
    return AnswerStore(
        folder=Path(config.paths.cache) / "answers",
        identity=answering_identity(config, features=features),
        chunk=CHUNK_BATCHES * config.trainer.batch_size,
        features=features,
    )


def answerer_of(config: Config, model: QuantizedCheckpoint, *, questions: int) -> "ChunkAnswerer":
    """What answers the chunks of a store; encoded questions are shared by all models that see images as this one does.

    Args:
        config: How to ask.
        model: The model.
        questions: How many will be asked in all.
    """

    @cache
    def encoded() -> "EncodedStore":
        # Made for the first chunk that is not found: its identity is a hash of the weights that see.
        from reliabit.inference.encoded_store import EncodedStore

        return EncodedStore(
            folder=Path(config.paths.cache) / "encoded",
            identity=encoding_identity(config, model.checkpoint.model),
            batch_size=config.trainer.batch_size,
            questions=questions,
            room=config.paths.cache_bytes(),
        )

    return chunk_answerer(config, model, encoded)


def answering_identity(config: Config, *, features: FeatureSettings | None) -> str:
    """A digest of everything that decides an answer and its states but the question.

    Batches round differently, so their size is part of it; the number of threads is not, as in a run's fingerprint.
    """
    cache, mapping = DigestCache(Path(config.paths.cache) / "digests"), to_mapping(config)
    quant = {"method": "none"} if config.quant.method == "none" else _without(mapping["quant"], "name")
    identity = {
        "model": checkpoint_inputs(config.model.folder, cache=cache),
        "asking": _without(mapping["model"], "name", "path", "revision", "download"),
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


def encoding_identity(config: Config, model: "PreTrainedModel") -> str:
    """A digest of everything that decides how questions are encoded and what is seen, but the questions.

    The weights that see are hashed as they are, quantized or not, so that every plan that leaves them alone shares.
    """
    cache, folder = DigestCache(Path(config.paths.cache) / "digests"), config.model.folder
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


def _weights_digest(model: "PreTrainedModel") -> str:
    import torch

    digest = sha256()
    for name, tensor in tensors_of(model):
        if component_of(name) in VISION:
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _kernels_here(config: Config) -> list[str]:
    import torch

    from reliabit.quant.kernels.dispatch import kernels_here

    return kernels_here(getattr(torch, config.model.dtype))


def _without(mapping: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: value for key, value in mapping.items() if key not in keys}


def answer_on_devices(config: Config, questions: "Dataset") -> None:
    """Answer what the store does not hold, on `trainer.devices` devices at once; nothing where that is one.

    To be called before this process loads a model of its own, which it needs for what comes after.

    Raises:
        ReliabitError: There are fewer devices, or a process failed; what the others answered is kept.
    """
    if config.trainer.devices == 1:
        return
    devices, store = visible_devices(config.trainer), answer_store(config)
    missing = store.missing(questions)
    if missing:
        _run_workers(config, devices, awaited={store.place(part): len(part.questions) for part in missing})


def _run_workers(config: Config, devices: Sequence[str], *, awaited: dict[Path, int]) -> None:
    trainer = replace(config.trainer, devices=1, progress_bar=False, threads=_threads(config.trainer))
    alone = replace(config, trainer=trainer)
    # A forked process could not use CUDA once its parent has.
    context = get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(alone, rank, devices, os.getpid()), name=f"answers-{rank}")
        for rank in range(len(devices))
    ]
    for worker in workers:
        worker.start()
    try:
        _watch(workers, awaited, shown=config.trainer.progress_bar)
    finally:
        for worker in workers:
            worker.terminate()
    failed = [f"{worker.name} (status {worker.exitcode})" for worker in workers if worker.exitcode]
    if failed:
        raise ReliabitError(
            f"{', '.join(failed)} of trainer.devices={len(devices)} failed, see above; what was answered is kept: mend "
            "what failed and run again"
        )


def _watch(workers: "Sequence[BaseProcess]", awaited: dict[Path, int], *, shown: bool) -> None:
    """Wait until all workers have ended, and show how much of what was missing is there."""
    left = dict(awaited)
    title = f"answering on {len(workers)} devices"
    with step(title, total=sum(left.values()), unit="questions", shown=shown) as answered:
        running = True
        while running:
            running = any(worker.is_alive() for worker in workers)
            for place in [place for place in left if place.is_dir()]:
                answered.advance(left.pop(place))
            if running:
                connection.wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=POLL_SECONDS)


def visible_devices(trainer: TrainerConfig) -> list[str]:
    """The devices of the processes, as `CUDA_VISIBLE_DEVICES` names them; empty names on a CPU.

    Raises:
        ReliabitError: There are not enough.
    """
    if trainer.accelerator == "cpu":
        return [""] * trainer.devices
    import torch

    named = os.environ.get(VISIBLE)
    found = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    if len(found) < trainer.devices:
        raise ReliabitError(f"trainer.devices={trainer.devices} and there are only {len(found)}; lower it")
    return found[: trainer.devices]


def _threads(trainer: TrainerConfig) -> int | None:
    """The CPU threads of each process."""
    if trainer.threads is None and trainer.accelerator != "cpu":
        return None
    return max(1, (trainer.threads or os.cpu_count() or 1) // trainer.devices)


def _work(config: Config, rank: int, devices: Sequence[str], parent: int) -> None:
    try:
        _fill(config, rank, devices, parent)
    except ReliabitError as error:
        sys.stderr.write(in_one_line(error))
        sys.exit(2)
    except KeyboardInterrupt:
        # The process that started this one gets the signal too, and says so.
        sys.exit(130)


def _fill(config: Config, rank: int, devices: Sequence[str], parent: int) -> None:
    if devices[rank]:
        # Read when CUDA is first used, which is later.
        os.environ[VISIBLE] = devices[rank]
    from reliabit.tasks._asked_questions import asked_questions
    from reliabit.tasks.runtime import set_up

    set_up(config)
    questions = asked_questions(config, training=config.confidence.needs_training(), listed_in=None)
    answerer = answerer_of(config, load_quantized(config), questions=len(questions))
    for _ in answer_store(config).fill(questions, answerer, share=rank / len(devices)):
        # Whoever started this is gone, and nobody waits for what is left.
        if os.getppid() != parent:
            return
