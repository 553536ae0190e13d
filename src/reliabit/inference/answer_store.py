"""Answers kept by what they depend on, a chunk of questions at a time.

A killed run loses the chunk in flight and no other; cells of a sweep that ask one model the same questions answer them
once. A chunk lies in a folder whose name is a digest of the questions themselves and of everything else its answers
depend on, so a folder is never wrong, only unused; what is in it is checked against its hash whenever it is read.
"""

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.cache import entry_lock, get_or_create, read_or_drop
from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import read_sealed, sealed, staged_folder
from reliabit.inference.chunks import Chunk, chunks
from reliabit.inference.features import FEATURES, FeatureWriter, feature_writer, keys_of, read_features
from reliabit.inference.settings import FeatureSettings

if TYPE_CHECKING:
    from datasets import Dataset

    ChunkAnswerer = Callable[[Chunk, FeatureWriter | None], "Answers"]

ANSWERS = "answers.json"
REMEDY = "run task=answer again"

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Answers:
    """The answers to a chunk of questions.

    Attributes:
        answers: The fields of `Answer`, one mapping a question.
        seconds: What answering them takes from the images on, whoever did which part of it and whenever.
    """

    answers: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class AnsweredChunk:
    """A chunk of answers, as the model gave them; they are judged when they are gathered.

    Attributes:
        folder: Where it lies.
        questions: What was asked.
        answers: The fields of `Answer`, one mapping a question.
        seconds: What answering it takes; see `Answers`.
        peak_bytes: The largest memory while it was answered.
    """

    folder: Path
    questions: "Dataset"
    answers: list[dict[str, Any]]
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class AnswerStore:
    """Chunks of answers below a folder.

    Attributes:
        folder: Where chunks lie.
        identity: A digest of what answers depend on beside the questions: the model, how it is quantized and asked, and
            the code and libraries that compute.
        chunk: Questions a chunk; a multiple of the batch size, so that batches do not depend on where a run was cut.
        features: Which states are kept; none where it is `None`.
    """

    folder: Path
    identity: str
    chunk: int
    features: FeatureSettings | None

    def ask(self, questions: "Dataset", answer: "ChunkAnswerer") -> Iterator[AnsweredChunk]:
        """Answer questions, or find their answers; yields the chunks in order, each as soon as it is there.

        Processes may ask at once: one answers a chunk, the others wait for it.

        Args:
            questions: A VQA table with the columns `split` and `shift`.
            answer: Answers a chunk in order, and gives the writer the states of each question.
        """
        for part in chunks(questions, size=self.chunk):
            yield self._chunk(part, answer)

    def missing(self, questions: "Dataset") -> list[Chunk]:
        """The chunks of some questions that nobody has answered, or whose answers are damaged."""
        parts = chunks(questions, size=self.chunk)
        return [part for part in parts if not self._holds(part)]

    def place(self, chunk: Chunk) -> Path:
        """The folder of a chunk, which appears once it is answered."""
        return self.folder / chunk.name(self.identity)

    def fill(self, questions: "Dataset", answer: "ChunkAnswerer", *, share: float) -> Iterator[None]:
        """Answer the chunks that nobody has answered nor is answering; for one of several processes.

        Args:
            questions: A VQA table with the columns `split` and `shift`.
            answer: Answers a chunk in order.
            share: Where to begin, as a share of the table, so that processes seldom meet.
        """
        from filelock import Timeout

        parts = list(chunks(questions, size=self.chunk))
        first = round(share * len(parts))
        for part in [*parts[first:], *parts[:first]]:
            folder = self.place(part)
            try:
                with entry_lock(folder, timeout=0):
                    if read_or_drop(folder, partial(self._read, folder, part.questions)) is None:
                        self._write(folder, part, answer)
            except Timeout:
                # Somebody else is at it.
                continue
            yield

    def _holds(self, chunk: Chunk) -> bool:
        try:
            return self._read(self.place(chunk), chunk.questions) is not None
        except DamagedError:
            return False

    def _chunk(self, chunk: Chunk, answer: "ChunkAnswerer") -> AnsweredChunk:
        folder = self.place(chunk)
        return get_or_create(
            folder,
            read=partial(self._read, folder, chunk.questions),
            make=partial(self._write, folder, chunk, answer),
        )

    def _read(self, folder: Path, questions: "Dataset") -> AnsweredChunk | None:
        """A chunk, or `None` where it is not there; a `DamagedError` where it is not as it was written."""
        if not folder.is_dir():
            return None
        record = read_sealed(folder / ANSWERS, remedy=REMEDY)
        if [row["question_id"] for row in record["answers"]] != questions["question_id"]:
            raise DamagedError(f"{folder} holds the answers to other questions", remedy=REMEDY)
        if self.features is not None:
            try:
                read_features(folder / FEATURES, predictions=keys_of(questions))
            except ReliabitError as error:
                raise DamagedError(str(error).partition(";")[0], remedy=REMEDY) from error
        return AnsweredChunk(folder, questions=questions, **record)

    def _write(self, folder: Path, chunk: Chunk, answer: "ChunkAnswerer") -> AnsweredChunk:
        _reset_peak_memory()
        with staged_folder(folder) as staging:
            if self.features is None:
                found = answer(chunk, None)
            else:
                keys = keys_of(chunk.questions)
                with feature_writer(staging / FEATURES, keys=keys, settings=self.features) as writer:
                    found = answer(chunk, writer)
            record = {"answers": found.answers, "seconds": found.seconds, "peak_bytes": _peak_memory()}
            (staging / ANSWERS).write_bytes(sealed(record))
        written = self._read(folder, chunk.questions)
        if written is None:
            raise ReliabitError(f"{folder} is gone after it was written; look after the disk")
        return written


def _reset_peak_memory() -> None:
    """Start measuring anew; without Linux's means to do so, the peak of the whole process will be reported."""
    import torch

    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Linux: 5 resets the high-water mark of the resident set.
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory() -> int:
    """The largest memory since `_reset_peak_memory`, in bytes."""
    import torch

    if torch.cuda.is_available():
        # A model may be spread over several.
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    try:
        status = (_PROCESS / "status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
