"""Which model serves: the source's champion, loaded beside its predecessor and put in its place between two batches."""

import gc
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from reliabit.errors import ReliabitError
from reliabit.serving.bundle.folder import verified_snapshot
from reliabit.serving.bundle.image_questions import ImageQuestion
from reliabit.serving.bundle.manifest import check_bundle, manifest_digest
from reliabit.serving.bundle.served_model import ServedAnswer, ServedModel
from reliabit.serving.drift.watch import Watch

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""After which a version that was refused is looked at again: its folder may have been repaired."""


@dataclass(frozen=True)
class Offer:
    """What a source would have served.

    Attributes:
        version: Its name.
        snapshot: Fetches it where that is needed, and gives a verified private copy for as long as a block lasts; see
            `verified_snapshot`. It raises a ReliabitError where that is not the version that was offered.
    """

    version: str
    snapshot: Callable[[], AbstractContextManager[Path]]


class Source(Protocol):
    """Says what is to be served."""

    def current(self) -> Offer:
        """What is to be served now; it is asked often, and looks at no more than a name.

        Raises:
            ReliabitError: There is nothing.
        """


@dataclass(frozen=True)
class FolderSource:
    """A bundle in a folder; writing another one there makes it the version to be served.

    Attributes:
        folder: The bundle.
        digest: The SHA-256 of the manifest of the only bundle that may be served, as it is kept elsewhere; `None`
            where whatever agrees with the manifest beside it may.
    """

    folder: Path
    digest: str | None = None

    def current(self) -> Offer:
        """The bundle, by the first 12 digits of its manifest's digest."""
        check_bundle(self.folder)
        found = manifest_digest(self.folder)
        # Another may take its place before it is loaded, which must not be served under the name of this one.
        return Offer(found[:12], lambda: verified_snapshot(self.folder, digest=self.digest or found))


class NoModelError(Exception):
    """No model has been loaded yet."""


@dataclass(frozen=True)
class LoadedVersion:
    """A version that serves: its name, its model, and the watch for drift in its answers."""

    version: str
    model: ServedModel
    watch: Watch

    @classmethod
    def of(cls, version: str, model: ServedModel) -> "LoadedVersion":
        """A loaded model with a watch that has seen nothing yet."""
        threshold = model.description.certificate(None).threshold
        return cls(version, model, Watch(model.calibration[0], threshold=threshold))


@dataclass(frozen=True)
class RefusedVersion:
    """What could not be loaded, `None` where the source itself failed; why; and when, by the monotonic clock."""

    version: str | None
    reason: str
    at: float


class ModelHost:
    """Holds the model that serves. `refresh` runs in one thread at a time, `answer` in another."""

    def __init__(self, source: Source, *, accelerator: str = "cpu") -> None:
        """Nothing is loaded yet.

        Args:
            source: What is to be served.
            accelerator: `cpu`, `gpu` or `auto`.
        """
        self.source = source
        self.accelerator = accelerator
        self.loaded: LoadedVersion | None = None
        self.refused: RefusedVersion | None = None
        self.refusals = 0

    def serving(self) -> LoadedVersion:
        """What serves now.

        Raises:
            NoModelError: Nothing does yet.
        """
        if self.loaded is None:
            raise NoModelError
        return self.loaded

    def refresh(self) -> None:
        """Load what the source names now, unless it serves already; a failure leaves everything as it was.

        Raises:
            ReliabitError: The source names nothing, or what it names cannot be loaded.
        """
        version: str | None = None
        try:
            offer = self.source.current()
            version = offer.version
            if self._is_settled(version):
                return
            with offer.snapshot() as snapshot:
                model = ServedModel(snapshot, accelerator=self.accelerator)
        except Exception as error:
            reason = str(error) if isinstance(error, ReliabitError) else f"{type(error).__name__}; see the log"
            self.refused = RefusedVersion(version, reason, at=time.monotonic())
            self.refusals += 1
            raise
        self.loaded = LoadedVersion.of(version, model)
        self.refused = None
        logger.info("serving %s as version %s", model.description.name, version)
        _release()

    def refresh_quietly(self) -> None:
        """`refresh`, for a loop that must go on: what fails is logged and kept in `refused`."""
        try:
            self.refresh()
        except ReliabitError as error:
            logger.warning("not loaded: %s", error)
        except Exception:
            logger.exception("not loaded")

    def answer(self, questions: Sequence[ImageQuestion]) -> list[ServedAnswer]:
        """Answer questions with whatever serves now, all of them with the same, whose version the answers bear.

        Raises:
            NoModelError: Nothing serves yet.
            QuestionsRefusedError: Some cannot be answered.
        """
        loaded = self.serving()
        answered = loaded.model.answer(questions)
        loaded.watch.observe([one.confidence for one in answered])
        return [replace(one, model_version=loaded.version) for one in answered]

    @property
    def batch_size(self) -> int:
        """Questions that may be answered together."""
        return self.loaded.model.description.batch_size if self.loaded is not None else 1

    def _is_settled(self, version: str) -> bool:
        """Whether a version serves already, or was refused a short while ago."""
        if self.loaded is not None and self.loaded.version == version:
            self.refused = None
            return True
        refused = self.refused
        return refused is not None and refused.version == version and time.monotonic() - refused.at < RETRY_SECONDS


def _release() -> None:
    """Give back the memory of a model that no longer serves."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
