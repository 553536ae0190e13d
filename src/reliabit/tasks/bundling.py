"""The bundle of a measured configuration: its checkpoint is made again as recorded, and checked to be the same."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from omegaconf import OmegaConf

from reliabit.composition import to_config
from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.prediction_columns import CERTIFIED, rows_of, scored_answers
from reliabit.identity import FINGERPRINT, Fingerprint, explain
from reliabit.inference.predictions import NO_SHIFT
from reliabit.paths import models_folder
from reliabit.progress import step
from reliabit.registry.card import CardFacts, model_card
from reliabit.registry.decision import Decision
from reliabit.serving.bundle.description import Confidence, Description
from reliabit.serving.bundle.folder import write_bundle
from reliabit.tasks._asked_questions import asked_questions
from reliabit.tasks._cell import LAYERS, layers_by_kernel
from reliabit.tasks.pipeline import run_identity
from reliabit.tasks.quantize import stream_quantized
from reliabit.tasks.select import SELECTOR_FOLDER
from reliabit.tracking.context import COMMIT
from reliabit.tracking.tracker import Tracker

CHECKED = 64
"""Questions whose answers a bundle must give as its run did."""

TOLERANCE = 1e-3
"""By how much a confidence may differ: batches are others, and round differently."""


@contextmanager
def bundle_of(candidate: Cell, decision: Decision, tracker: Tracker, *, config: Config) -> Iterator[Path]:
    """Make the bundle of a candidate in a temporary folder.

    The checkpoint is quantized again as the run did, which its fingerprint proves; the Selector is the run's own.

    Args:
        candidate: What is to go live.
        decision: Why; its certificates go into the bundle.
        tracker: Where the candidate is recorded.
        config: The present configuration, for where files lie and how the machine is used.

    Yields:
        The folder.

    Raises:
        ReliabitError: The code, the libraries, the model or the data are no longer those of the run, or the bundle
            does not answer as the run did.
    """
    recorded = recorded_config(candidate, config)
    with TemporaryDirectory() as fetched:
        text = tracker.fetch(candidate.run_id, FINGERPRINT, Path(fetched)).read_text(encoding="utf-8")
    with step("checking that the run would be the same today", shown=recorded.trainer.progress_bar):
        check_unchanged(Fingerprint.from_json(text), recorded)
    tags = tracker.client.get_run(candidate.run_id).data.tags
    description = describe(candidate, decision, recorded)
    card = model_card(
        CardFacts(
            candidate=candidate,
            decision=decision,
            description=description,
            commit=tags.get(COMMIT, ""),
            stand_in=recorded.model.parts is None and recorded.model.folder.resolve().is_relative_to(models_folder()),
        )
    )
    confidence = decision.policy.confidence
    with TemporaryDirectory() as made:
        folder = Path(made, "bundle")
        sample = scored_answers(rows_of(candidate.answers, CERTIFIED), confidence)
        write_bundle(
            folder,
            description=description,
            checkpoint=_checkpoint(recorded, Path(made, "checkpoint")),
            selector=None if confidence == "maxprob" else _selector(tracker, candidate, confidence, Path(made, "run")),
            calibration=(sample.confidence, sample.accuracy),
            card=card,
        )
        check_answers(folder, candidate, recorded, confidence=confidence)
        yield folder


def recorded_config(candidate: Cell, config: Config) -> Config:
    """The configuration of a run, with the places and the use of the machine of the present one."""
    found = to_config(OmegaConf.create({**candidate.config, "hydra": {}}))
    trainer = replace(found.trainer, threads=config.trainer.threads, progress_bar=config.trainer.progress_bar)
    return replace(found, paths=config.paths, tracking=config.tracking, trainer=trainer)


def check_unchanged(before: Fingerprint, recorded: Config) -> None:
    """Check that a run would be the same today.

    Raises:
        ReliabitError: Something that decides its numbers has changed.
    """
    now = run_identity(recorded)
    if now.hex != before.hex:
        changes = "; ".join(explain(before, now))
        raise ReliabitError(f"what was measured cannot be made again ({changes}); run the sweep again, then promote")


def describe(candidate: Cell, decision: Decision, recorded: Config) -> Description:
    """What the bundle says of itself."""
    settings = decision.policy
    return Description(
        name=candidate.name,
        family=recorded.model.known_family,
        dtype=recorded.model.dtype,
        template=recorded.model.template,
        max_new_tokens=recorded.model.max_new_tokens,
        max_pixels=recorded.model.max_pixels,
        batch_size=recorded.trainer.batch_size,
        confidence=cast("Confidence", settings.confidence),
        certificates=decision.certificates,
        default_risk=settings.required_risk,
        run_id=candidate.run_id,
        fingerprint=candidate.fingerprint,
        inputs=dict(candidate.inputs),
        features_layer=recorded.confidence.features.layer,
        features_dtype=recorded.confidence.features.dtype,
    )


def check_answers(folder: Path, candidate: Cell, recorded: Config, *, confidence: str) -> None:
    """Check that a bundle answers as its run did, and by the same kernels.

    Raises:
        ReliabitError: It does not.
    """
    from reliabit.quant import kernels_of
    from reliabit.serving.bundle.image_questions import ImageQuestion
    from reliabit.serving.bundle.served_model import ServedModel

    plain = replace(recorded, data=replace(recorded.data, shifts=[]), other_data={})
    questions = asked_questions(plain, training=False, listed_in=None)
    chosen = [row for row, split in enumerate(questions["split"]) if split == recorded.evaluation.reported][:CHECKED]
    asked = questions.select(chosen)
    expected = _by_question(candidate, confidence)
    with step(f"asking the bundle {len(asked)} questions", shown=recorded.trainer.progress_bar):
        model = ServedModel.load(folder, accelerator=recorded.trainer.accelerator)
        network = model.answering.model
        check_kernels(kernels_of(network, dtype=network.dtype), candidate.metrics, run_id=candidate.run_id)
        found = model.answer([ImageQuestion(image=row["image"], question=row["question"]) for row in asked])
    for row, answered in zip(asked, found, strict=True):
        answer, sure = expected[row["question_id"]]
        if answered.answer != answer or abs(answered.confidence - sure) > TOLERANCE:
            raise ReliabitError(
                f"the bundle answers {row['question_id']} with {answered.answer!r} ({answered.confidence:.4f}), and "
                f"the run {candidate.run_id} with {answer!r} ({sure:.4f}); it is not promoted"
            )


def check_kernels(served: Mapping[str, str], metrics: Mapping[str, float], *, run_id: str) -> None:
    """Check that a bundle multiplies by its layers as was measured: another kernel has another latency and rounding.

    Args:
        served: The kernel of each layer of the bundle.
        metrics: What the run recorded.
        run_id: The run.

    Raises:
        ReliabitError: It does not.
    """
    measured = {name: value for name, value in metrics.items() if name.startswith(LAYERS)}
    here = layers_by_kernel(served)
    if here != measured:
        raise ReliabitError(
            f"the run {run_id} multiplied by {_in_words(measured)}, and the bundle by {_in_words(here)} on this "
            "machine; promote it on one like that, or run the sweep again on this one"
        )


def _in_words(layers: Mapping[str, float]) -> str:
    return ", ".join(f"{name.removeprefix(LAYERS)} in {count:.0f} layers" for name, count in sorted(layers.items()))


def _by_question(candidate: Cell, confidence: str) -> dict[str, tuple[str, float]]:
    table = candidate.answers
    columns = (table[name].to_pylist() for name in ("question_id", "shift", "answer", f"conf_{confidence}"))
    return {
        question: (answer, sure) for question, shift, answer, sure in zip(*columns, strict=True) if shift == NO_SHIFT
    }


def _checkpoint(recorded: Config, folder: Path) -> Path:
    """The quantized checkpoint, written anew; the model's own folder where nothing is quantized."""
    if recorded.quant.method == "none":
        return recorded.model.folder
    stream_quantized(recorded, folder)
    return folder


def _selector(tracker: Tracker, candidate: Cell, confidence: str, folder: Path) -> Path:
    name = f"{SELECTOR_FOLDER}/{confidence}"
    try:
        return tracker.fetch(candidate.run_id, name, folder)
    except ReliabitError as error:
        raise ReliabitError(
            f"the run {candidate.run_id} has no {confidence}; run it with confidence=selector"
        ) from error
