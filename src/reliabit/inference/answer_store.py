"""Answers kept by what they depend on, a chunk of questions at a time.

A killed run loses the chunk in flight and no other; cells of a sweep that ask one model the same questions answer them
once. A chunk lies in a folder whose name is a digest of the questions themselves and of everything else its answers
depend on, so a folder is never wrong, only unused.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.files import staged_folder
from reliabit.inference.features import (
    BLOCKS,
    FEATURES,
    KEY_COLUMNS,
    FeatureSettings,
    FeatureWriter,
    feature_writer,
    read_features,
)
from reliabit.inference.memory import peak_memory, reset_peak_memory
from reliabit.inference.predictions import PREDICTIONS, predictions_table, read_predictions, write_predictions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    Answer = Callable[[Dataset, FeatureWriter | None], list[dict[str, Any]]]

COST = "cost.json"


@dataclass(frozen=True)
class Stored:
    """A chunk of answers.

    Attributes:
        folder: Where it lies.
        questions: How many it holds.
        seconds: What answering it took, whenever that was.
        peak_bytes: The largest memory while it was answered.
    """

    folder: Path
    questions: int
    seconds: float
    peak_bytes: int

    def predictions(self) -> "pa.Table":
        """Its predictions table."""
        return read_predictions(self.folder / PREDICTIONS)


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

    def ask(self, questions: "Dataset", answer: "Answer") -> Iterator[Stored]:
        """Answer questions, or find their answers.

        Processes may ask at once: one answers a chunk, the others wait for it.

        Args:
            questions: A VQA table with the columns `split` and `shift`.
            answer: Answers a table in order, and gives the writer the states of each question.

        Yields:
            The chunks in order, each as soon as it is there.
        """
        for part in chunks(questions, size=self.chunk):
            yield self._chunk(part, answer)

    def _chunk(self, questions: "Dataset", answer: "Answer") -> Stored:
        from filelock import FileLock

        folder = self.folder / sha256(f"{self.identity}/{questions_digest(questions)}".encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            with FileLock(self.folder / f".{folder.name}.lock"):
                if not folder.is_dir():
                    self._write(folder, questions, answer)
        # The time stamp says when a chunk was last of use, should room be needed.
        os.utime(folder)
        return Stored(folder, questions=len(questions), **json.loads((folder / COST).read_text()))

    def _write(self, folder: Path, questions: "Dataset", answer: "Answer") -> None:
        reset_peak_memory()
        start = time.perf_counter()
        with staged_folder(folder) as staging:
            if self.features is None:
                answers = answer(questions, None)
            else:
                keys = questions.select_columns(list(KEY_COLUMNS)).with_format("arrow")[:]
                with feature_writer(staging / FEATURES, keys=keys, settings=self.features) as writer:
                    answers = answer(questions, writer)
            cost = {"seconds": time.perf_counter() - start, "peak_bytes": peak_memory()}
            write_predictions(predictions_table(questions, answers), staging / PREDICTIONS)
            (staging / COST).write_text(json.dumps(cost))


def chunks(questions: "Dataset", *, size: int) -> "Iterator[Dataset]":
    """Cut a table into chunks that lie within one split and one shift each, so that other tables cut alike."""
    asked = list(zip(questions["split"], questions["shift"], strict=True))
    start = 0
    while start < len(asked):
        end = start
        while end < len(asked) and end - start < size and asked[end] == asked[start]:
            end += 1
        yield questions.select(range(start, end))
        start = end


def questions_digest(questions: "Dataset") -> str:
    """A digest of everything a table of questions holds, images included."""
    digest = sha256()
    for row in questions:
        digest.update(sha256(row["image"]).digest())
        digest.update(json.dumps([row[key] for key in sorted(row) if key != "image"]).encode())
    return digest.hexdigest()


def gather(stored: Sequence[Stored]) -> "pa.Table":
    """The predictions of all chunks as one table."""
    import pyarrow as pa

    return pa.concat_tables([chunk.predictions() for chunk in stored])


def gather_features(
    stored: Sequence[Stored], folder: Path, *, predictions: "pa.Table", settings: FeatureSettings
) -> None:
    """Write the features of all chunks as one folder, a chunk at a time."""
    with feature_writer(folder, keys=predictions.select(list(KEY_COLUMNS)), settings=settings) as writer:
        for chunk in stored:
            blocks = read_features(chunk.folder / FEATURES, predictions=chunk.predictions())
            writer.append({name: np.asarray(blocks[name]) for name in BLOCKS})
