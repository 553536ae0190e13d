"""Encoded questions and what the vision tower sees, kept for every model that sees alike.

Quantizing the decoder changes neither, so the cells of a sweep share them: about a quarter of the work of answering on
the reference models. What is kept is named after the weights that saw, whatever plan left them as they are.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reliabit.cache import get_or_create
from reliabit.files import check_hash, read_sealed, sealed, sha256, staged_folder
from reliabit.inference.chunks import Chunk
from reliabit.inference.prediction_loop import Predicting, batches_of, is_finite, predict
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint

TENSORS, RECORD = "batches.safetensors", "batches.json"

REMEDY = "remove it, and it is made again"

SHARE = 0.5
"""What is worth keeping takes no more than this share of the room there is; beyond it, one run would evict itself."""


@dataclass(frozen=True)
class EncodedChunk:
    """The encoded questions of a chunk.

    Attributes:
        batches: In order; their images are seen already.
        seconds: What encoding and seeing took, whoever did it and whenever; waiting and reading left out.
    """

    batches: list[Batch]
    seconds: float


@dataclass
class EncodedStore:
    """Chunks of encoded questions below a folder.

    Attributes:
        folder: Where chunks lie.
        identity: A digest of what they depend on beside the questions: see `reliabit.tasks._answer_stores`.
        batch_size: Questions a batch.
        questions: How many questions will be asked in all.
        room: Bytes that shared results may take.
    """

    folder: Path
    identity: str
    batch_size: int
    questions: int
    room: int
    _bytes_a_question: float = field(default=0.0, init=False)

    def encode(self, chunk: Chunk, encode: Callable[[Sequence[int]], list[Batch]]) -> EncodedChunk | None:
        """Encode a chunk, or find it encoded.

        Processes may ask at once: one encodes a chunk, the others wait for it.

        Args:
            chunk: The questions.
            encode: Encodes those of some batches, by their numbers, and sees their images.

        Returns:
            The encoded questions; `None` where they would take too much room to be kept, as with full-size models,
            whose features of an image are some megabytes and sooner computed than read.
        """
        folder = self.folder / chunk.name(self.identity)
        if not folder.is_dir() and not self._fits(chunk, encode):
            return None
        return get_or_create(
            folder, read=partial(self._read, folder, chunk), make=partial(self._write, folder, chunk, encode)
        )

    def _fits(self, chunk: Chunk, encode: Callable[[Sequence[int]], list[Batch]]) -> bool:
        if not self._bytes_a_question:
            first = _flat(encode([0]))
            asked = min(self.batch_size, len(chunk.questions))
            self._bytes_a_question = sum(tensor.nbytes for tensor in first.values()) / asked
        return self._bytes_a_question * self.questions <= SHARE * self.room

    def _read(self, folder: Path, chunk: Chunk) -> EncodedChunk | None:
        """A chunk, or `None` where it is not there; a `DamagedError` where it is not as it was written."""
        from safetensors.torch import load_file

        if not folder.is_dir():
            return None
        record = read_sealed(folder / RECORD, remedy=REMEDY)
        check_hash(folder / TENSORS, record["sha256"], remedy=REMEDY)
        tensors = load_file(folder / TENSORS)
        asked = [chunk.questions[start : start + self.batch_size]["question_id"] for start in self._starts(chunk)]
        batches = [_batch(tensors, number, question_ids=ids) for number, ids in enumerate(asked)]
        return EncodedChunk(batches=batches, seconds=record["seconds"])

    def _starts(self, chunk: Chunk) -> range:
        return range(0, len(chunk.questions), self.batch_size)

    def _write(self, folder: Path, chunk: Chunk, encode: Callable[[Sequence[int]], list[Batch]]) -> EncodedChunk:
        from safetensors.torch import save_file

        start = time.perf_counter()
        batches = encode(range(len(self._starts(chunk))))
        seconds = time.perf_counter() - start
        with staged_folder(folder) as staging:
            save_file(_flat(batches), staging / TENSORS)
            record = {"seconds": seconds, "sha256": sha256(staging / TENSORS)}
            (staging / RECORD).write_bytes(sealed(record))
        return EncodedChunk(batches=batches, seconds=seconds)


def _flat(batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """The tensors of batches by name; those of one batch begin with its number."""
    flat: dict[str, Any] = {}
    for number, batch in enumerate(batches):
        seen = batch.seen or []
        named = {
            **{f"text.{name}": tensor for name, tensor in batch.text.items()},
            **{f"images.{name}": tensor for name, tensor in batch.images.items()},
            "image_of": batch.image_of,
            "image_tokens": batch.image_tokens,
            "question_tokens": batch.question_tokens,
            "seen": torch.cat(list(seen)),
            "seen_tokens": torch.tensor([len(features) for features in seen]),
        }
        flat |= {f"{number}.{name}": tensor.cpu().contiguous() for name, tensor in named.items()}
    return flat


def _batch(tensors: dict[str, torch.Tensor], number: int, *, question_ids: list[str]) -> Batch:
    own = {name.removeprefix(f"{number}."): tensor for name, tensor in tensors.items() if name.startswith(f"{number}.")}
    return Batch(
        question_ids=question_ids,
        text={name.removeprefix("text."): tensor for name, tensor in own.items() if name.startswith("text.")},
        images={name.removeprefix("images."): tensor for name, tensor in own.items() if name.startswith("images.")},
        image_of=own["image_of"],
        image_tokens=own["image_tokens"],
        question_tokens=own["question_tokens"],
        seen=list(torch.split(own["seen"], own["seen_tokens"].tolist())),
    )


def encode(
    checkpoint: Checkpoint, chunk: Chunk, numbers: Iterable[int], *, batch_size: int, accelerator: str
) -> list[Batch]:
    """Encode some batches of a chunk, by their numbers, and see their images."""
    rows = range(len(chunk.questions))
    wanted = [row for number in numbers for row in rows[number * batch_size : (number + 1) * batch_size]]
    batches = batches_of(chunk.questions.select(wanted), checkpoint.encoder, batch_size=batch_size)
    seen = predict(VisionEncoding(checkpoint), batches, accelerator=accelerator, progress=False)
    return [batch for [batch] in seen]


class VisionEncoding(Predicting):
    """Runs the vision tower on the images of a batch, apart from the decoder that answers."""

    def step(self, batch: Batch, batch_index: int) -> list[Batch]:
        """See the images of a batch: the batch alone in a list, without their pixels, in the memory of the host."""
        adapter = self.encoder.adapter
        seen = adapter.see_images(self.model, batch.images)
        described = {name: batch.images[name] for name in adapter.described_by}
        return [replace(batch, images=described, seen=seen).to(torch.device("cpu"))]

    def not_finite(self, batch: Batch, found: list[Batch]) -> list[str]:
        """The questions about images that were seen in numbers that are not finite."""
        [seen] = found
        return [
            name
            for name, image in zip(batch.question_ids, batch.image_of.tolist(), strict=True)
            if not is_finite((seen.seen or [])[image])
        ]
