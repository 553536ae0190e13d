"""A bundle at work: answers to batches of questions, each with its confidence and whether it is given or withheld."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.confidence.estimator import FittedEstimator
from reliabit.confidence.estimators.formulas import MAXPROB
from reliabit.confidence.examples import SCALARS, AnswerEvidence
from reliabit.errors import ReliabitError
from reliabit.inference.features import BLOCKS
from reliabit.inference.settings import FeatureSettings
from reliabit.models.admission import Admission, context_length
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.models.spread import device_of
from reliabit.serving.bundle.description import Description, certificate_id
from reliabit.serving.bundle.folder import CHECKPOINT, SELECTOR, read_calibration, read_description, verified_snapshot
from reliabit.serving.bundle.image_questions import (
    ImageQuestion,
    QuestionsRefusedError,
    encode_questions,
    refuse,
)

ONE_AT_A_TIME = Lock()
"""Held by a forward pass: whatever models a process has loaded, one batch of one of them is computed at a time."""


@dataclass(frozen=True, kw_only=True)
class ServedAnswer:
    """An answer and what is certified of it.

    Attributes:
        answer: The model's answer, whether or not it may be given.
        confidence: How sure it is, in [0, 1]; 0 where the model's numbers overflowed.
        abstained: Whether the confidence is below the threshold, so that the answer is to be withheld.
        threshold: The certified threshold; `None` where nothing could be certified and all answers are withheld.
        risk: Of answers that are given at most this share is wrong,
        delta: unless something happened whose probability is at most this.
        certificate_id: The certificate that says so.
        run_id: The run that evaluated the model.
        model_version: The version that gave it, where whoever serves it names one.
    """

    answer: str
    confidence: float
    abstained: bool
    threshold: float | None
    risk: float
    delta: float
    certificate_id: str
    run_id: str
    model_version: str = ""


class ServedModel:
    """A loaded bundle. Threads may share one: they wait for each other."""

    def __init__(self, snapshot: Path, *, accelerator: str = "cpu") -> None:
        """Load what `verified_snapshot` gave, which is not verified again, and try it.

        Args:
            snapshot: The folder; nothing is read of it later but what is mapped into memory.
            accelerator: `cpu`, `gpu`, or `auto` for whichever there is.

        Raises:
            ReliabitError: It cannot be loaded or cannot answer, or there is no such accelerator.
        """
        from reliabit.inference.answering import Answering

        self.description = description = read_description(snapshot)
        checkpoint = load_checkpoint(
            ModelConfig(
                path=str(snapshot / CHECKPOINT),
                family=description.family,
                dtype=description.dtype,
                template=description.template,
                max_pixels=description.max_pixels,
            )
        )
        self.estimator = load_estimator(snapshot, description)
        self.calibration = read_calibration(snapshot)
        self.device = device_of(accelerator)
        self.encoder = checkpoint.encoder
        features = FeatureSettings(layer=description.features_layer, dtype=description.features_dtype)
        self.states = _BatchStates(features) if description.confidence == "selector" else None
        # The very module that answers offline, without the loop around it.
        answering = Answering(checkpoint, max_new_tokens=description.max_new_tokens, features=self.states)
        self.answering: Answering = answering.to(self.device).eval()
        self.admission = Admission(
            checkpoint.encoder, longest=context_length(checkpoint.model.config) - description.max_new_tokens
        )
        self._warm_up()

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None, accelerator: str = "cpu") -> "ServedModel":
        """Load a bundle from one verified snapshot of it.

        Args:
            folder: The bundle.
            digest: What its `manifest_digest` must be, as it is kept elsewhere; `None` where nobody keeps it.
            accelerator: `cpu`, `gpu`, or `auto` for whichever there is.

        Raises:
            ReliabitError: The bundle is damaged, cannot be loaded or cannot answer, or there is no such accelerator.
        """
        with verified_snapshot(folder, digest=digest) as snapshot:
            return cls(snapshot, accelerator=accelerator)

    def answer(self, questions: Sequence[ImageQuestion]) -> list[ServedAnswer]:
        """Answer questions in order, `description.batch_size` at a time.

        Raises:
            QuestionsRefusedError: Some cannot be answered; it says which, and nothing was answered.
        """
        refuse([self._unknown_risk(one) for one in questions])
        size = self.description.batch_size
        answered: list[ServedAnswer] = []
        for start in range(0, len(questions), size):
            try:
                answered += self._answer_batch(questions[start : start + size])
            except QuestionsRefusedError as error:
                raise QuestionsRefusedError({start + row: reason for row, reason in error.reasons.items()}) from error
        return answered

    def _warm_up(self) -> None:
        """Answer a question about a grey image: the parts go together, and what is set up lazily is set up."""
        from PIL import Image

        grey = BytesIO()
        Image.new("RGB", (64, 64), (128, 128, 128)).save(grey, format="PNG")
        try:
            self.answer([ImageQuestion(image=grey.getvalue(), question="what is it?")])
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ReliabitError(f"the bundle {self.description.name} cannot answer: {reason}") from error

    def _unknown_risk(self, asked: ImageQuestion) -> str | None:
        try:
            self.description.certificate(asked.risk)
        except ReliabitError as error:
            return str(error)
        return None

    def _answer_batch(self, questions: Sequence[ImageQuestion]) -> list[ServedAnswer]:
        import torch

        with ONE_AT_A_TIME, torch.inference_mode():
            batch = encode_questions(questions, admission=self.admission)
            rows = self.answering.step(batch.to(self.device), 0)
            confidences = self._confidences(rows)
        return [
            self._decide(one, row["answer"], confidence)
            for one, row, confidence in zip(questions, rows, confidences, strict=True)
        ]

    def _confidences(self, rows: list[dict[str, Any]]) -> list[float]:
        """The confidence of each answer of a batch; 0 where a number it is made of is not finite."""
        columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in SCALARS}
        blocks = self.states.blocks if self.states is not None else {}
        finite = np.all([np.isfinite(values) for values in columns.values()], axis=0)
        for block in blocks.values():
            finite &= np.isfinite(block).all(axis=1)
        confidence = np.zeros(len(rows))
        if finite.any():
            confidence[finite] = self.estimator(
                AnswerEvidence(
                    columns={name: values[finite] for name, values in columns.items()},
                    features={name: block[finite] for name, block in blocks.items()} or None,
                )
            )
        found: list[float] = confidence.tolist()
        return found

    def _decide(self, asked: ImageQuestion, answer: str, confidence: float) -> ServedAnswer:
        certificate = self.description.certificate(asked.risk)
        return ServedAnswer(
            answer=answer,
            confidence=confidence,
            abstained=not confidence >= certificate.threshold,
            threshold=None if math.isinf(certificate.threshold) else certificate.threshold,
            risk=certificate.risk,
            delta=certificate.delta,
            certificate_id=certificate_id(certificate),
            run_id=self.description.run_id,
        )


@dataclass
class _BatchStates:
    """Pooled states of one batch, in the type in which a Selector's examples were stored; see `StateSink`."""

    settings: FeatureSettings
    blocks: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def append(self, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        with np.errstate(over="ignore"):
            self.blocks = {name: blocks[name].astype(self.settings.dtype) for name in BLOCKS}


def load_estimator(folder: Path, description: Description) -> FittedEstimator:
    """The confidence of a bundle; a ReliabitError where its files cannot be read."""
    if description.confidence == "maxprob":
        return MAXPROB
    from reliabit.confidence.selector_store import load_selector

    return load_selector(folder / SELECTOR)
