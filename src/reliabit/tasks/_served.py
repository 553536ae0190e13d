"""A model that another process serves, as the subject of a run: what it is known by, what it is asked, what it costs.

Kept answers are known by the code that this module reaches.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.config import Config
from reliabit.digests import DigestCache, checkpoint_inputs, code_digests
from reliabit.engines.asking import Asking, ProbedEngine, opened, probed
from reliabit.engines.endpoint import Endpoint
from reliabit.engines.vllm_process import installed_version
from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.inference.answer_store import AnswerStore
from reliabit.quant.settings import UNQUANTIZED
from reliabit.tasks._asked_questions import sample_questions

if TYPE_CHECKING:
    import pyarrow as pa

TOLD = {"log_prob", "n_tokens", "first_token_prob", "min_token_prob", "first_token_margin", "top_entropy"}
"""The columns of an answer that engines tell; estimators that read no others can be had of a served model."""

PREFLIGHT = "engine.json"
"""What was seen of an engine, among what a run writes."""

ANSWERING = ("reliabit.tasks._served",)

CHUNK = 256
"""Questions a chunk: so much a killed run may lose."""

PROBED = 5
"""Images that an engine may be blind to in a probe before it is taken for blind."""

REMARKABLE = 0.01
"""The share of answers from which on something is said of them."""

CERTAIN = "engine/certain_answers"
"""The metric of the share of answers whose log-probability is exactly 0."""

MIB = 2**20


@dataclass(frozen=True)
class ServedCheckpoint:
    """A model that an engine serves, probed and ready to be asked.

    Attributes:
        probed: The engine.
        stored_bytes: What its weights take; `None` where neither the engine nor the configuration tells.
    """

    probed: ProbedEngine
    stored_bytes: int | None

    @property
    def kernels(self) -> dict[str, str]:
        """What multiplies by its weights, which no engine tells."""
        return {}

    def costs(self, predictions: "pa.Table") -> dict[str, float]:
        """What it costs, as far as that can be told from outside, and how many of its answers are ties.

        Latencies are those of requests under the configured concurrency. Resident memory is the server's own affair;
        its weights are the least that it takes.
        """
        seconds = predictions["seconds"].to_numpy()
        found = {
            "efficiency/latency_p50_seconds": float(np.quantile(seconds, 0.5)),
            "efficiency/latency_p99_seconds": float(np.quantile(seconds, 0.99)),
            CERTAIN: float(np.mean(predictions["log_prob"].to_numpy() == 0)),
        }
        if self.stored_bytes is not None:
            found |= dict.fromkeys(("efficiency/stored_bytes", "efficiency/resident_bytes"), float(self.stored_bytes))
        return found

    def facts(self) -> dict[str, Any]:
        """What the engine says of its model, and what the probes saw."""
        model = self.probed.model
        return {"model": model.name, **model.facts, "probes": self.probed.probes.fields()}

    def write(self, folder: Path) -> Path:
        """Leave what was seen in a folder, as `PREFLIGHT`."""
        path = folder / PREFLIGHT
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(self.facts(), indent=1) + "\n", encoding="utf-8")
        return path


def check_askable(config: Config) -> None:
    """Check that what is asked of another process is something that it can do, and that it is there.

    Raises:
        ReliabitError: It is not.
    """
    engine = f"engine={config.engine.name}"
    if config.quant.method != UNQUANTIZED:
        raise ReliabitError(
            f"{engine} asks a model as it is served, and quant={config.quant.name} quantizes here; add quant=none (and "
            "quant.name=... quant.bits=... to call it by how it was quantized)"
        )
    needing = [one.name for one in config.confidence.chosen() if one.features or {*one.columns} - TOLD]
    if needing:
        raise ReliabitError(
            f"confidence.estimators={needing} cannot be had with {engine}, which tells no hidden states, no "
            "probabilities of all words and no further passes; leave them out, and take those that read an answer's "
            "scalars, such as maxprob, min_token and top_entropy"
        )
    if config.trainer.devices != 1:
        raise ReliabitError(
            f"trainer.devices={config.trainer.devices} is for models that are loaded here; leave it out"
        )
    if config.engine.loads_checkpoint:
        installed_version(config.engine)
    else:
        Endpoint(config.engine).served_model()


@contextmanager
def served_checkpoint(config: Config) -> Iterator[ServedCheckpoint]:
    """The engine of a configuration, opened and probed with a question of its data.

    Raises:
        ReliabitError: There is no engine, or its confidences would be worth nothing.
    """
    candidates = {row["image_id"]: (row["question"], row["image"]) for row in sample_questions(config, images=PROBED)}
    asking = Asking(
        template=config.model.template,
        max_tokens=config.model.max_new_tokens,
        alternatives=config.engine.top_logprobs,
        warm_up=config.engine.warm_up_timeout,
    )
    with opened(config.engine, config.model) as engine:
        found = probed(engine, asking, [*candidates.values()])
        yield ServedCheckpoint(found, stored_bytes=_stored_bytes(config))


def _stored_bytes(config: Config) -> int | None:
    """What the weights take, where that is known: llama.cpp tells it of the decoder alone, without the vision tower."""
    if config.engine.stored_mib is not None:
        return round(config.engine.stored_mib * MIB)
    if config.engine.loads_checkpoint:
        from reliabit.quant.checkpoint_io import checkpoint_bytes

        return checkpoint_bytes(config.model.folder)
    return None


def served_inputs(config: Config) -> dict[str, str]:
    """What identifies the model of an engine: the checkpoint that it loads, or what an endpoint says and answers.

    Two models of one name differ in what they answer, which is why an answer is part of it; its log-probability is
    rounded, since it differs in its last digits from batch to batch.
    """
    if config.engine.loads_checkpoint:
        cache = DigestCache(Path(config.paths.cache) / "digests")
        inputs = checkpoint_inputs(config.model.folder, cache=cache)
        return {**inputs, "engine/version": _digest(installed_version(config.engine))}
    with served_checkpoint(config) as served:
        return _identified(served)


def _identified(served: ServedCheckpoint) -> dict[str, str]:
    model, probes = served.probed.model, served.probed.probes
    answered = [probes.answer, round(probes.log_prob, 1), round(probes.blank_log_prob, 1)]
    return {"model/served": _digest([model.name, dict(model.facts)]), "model/answer": _digest(answered)}


def served_store(config: Config, served: ServedCheckpoint) -> AnswerStore:
    """Where the answers of a served model are kept, under a digest of what they depend on; see `answer_store`."""
    # Options may be of the arithmetic, such as a type of the cache.
    engine = {"name": config.engine.name, "options": config.engine.options}
    identity = {
        "model": served_inputs(config) if config.engine.loads_checkpoint else _identified(served),
        "asking": {**asdict(served.probed.asking), "warm_up": None},
        "engine": engine,
        "dtype": config.model.dtype if config.engine.loads_checkpoint else None,
        "code": code_digests(ANSWERING),
    }
    folder = Path(config.paths.cache) / "answers"
    return AnswerStore(folder=folder, identity=_digest(identity), chunk=CHUNK, features=None)


def remarks(predictions: "pa.Table", *, longest: int) -> list[str]:
    """What answers of an engine do to the numbers that are made of them, a sentence each; none where all is well.

    Args:
        predictions: The predictions table.
        longest: Tokens after which answers are cut off.
    """
    certain = float(np.mean(predictions["log_prob"].to_numpy() == 0))
    cut = float(np.mean(predictions["truncated"].to_numpy(zero_copy_only=False)))
    found = []
    if certain >= REMARKABLE:
        found.append(
            f"{100 * certain:.0f} % of the answers have a log-probability of exactly 0, as float32 gives it: which of "
            "these is surest is the order of the table and nothing else, and no threshold parts them"
        )
    if cut >= REMARKABLE:
        found.append(
            f"{100 * cut:.0f} % of the answers were cut off after {longest} tokens: they are judged as they are, and"
            " look surer than they are, as their end is missing; raise model.max_new_tokens"
        )
    return found


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
