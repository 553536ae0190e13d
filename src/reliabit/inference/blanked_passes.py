"""What a model says of its own answers where the image is blank: one more forward pass a question.

The prompt is the same but for the image, of which the size alone is left (`reliabit.data.corruptions.blank`); the
answer's own tokens stand behind it, and are scored as they were when they were generated. All questions of a size share
one blank image: the vision tower sees it once, and the decoder reads it once a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch

from reliabit.data.corruptions import blank_canvas
from reliabit.data.image_decoding import image_size
from reliabit.inference._prefix_sharing import pack
from reliabit.inference.chunks import restored
from reliabit.inference.decoding import score_tokens, written_logits
from reliabit.inference.prediction_loop import Predicting, batches_of, predict
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint
from reliabit.quant.layers import dequantized_once

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

Size = tuple[int, int]


@dataclass(frozen=True)
class BlankedAnswer:
    """What a model says of an answer of its own before a blank image.

    Attributes:
        log_prob: The log-probability of the whole answer.
        mean_entropy: The entropy of a token's distribution, in nats, on average over the answer's tokens.
    """

    log_prob: float
    mean_entropy: float


class Blanked(Predicting):
    """Scores answers that are written behind their prompts.

    Args:
        checkpoint: The model and its encoder.
        answers: By batch, the tokens of each answer.
        sizes: By batch, the sizes of its images, in the order in which they are encoded.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, answers: Sequence[Sequence[Sequence[int]]], sizes: Sequence[Sequence[Size]]
    ) -> None:
        super().__init__(checkpoint)
        self.answers = answers
        self.sizes = sizes
        self.seen: dict[Size, torch.Tensor] = {}

    def step(self, batch: Batch, batch_index: int) -> list[dict[str, float]]:
        """The fields of `BlankedAnswer`, one mapping a question."""
        adapter, answers = self.encoder.adapter, self.answers[batch_index]
        # Batches are ordered by size, so what is not in this one is not needed again.
        self.seen = {
            size: self.seen[size] if size in self.seen else self._see(size) for size in self.sizes[batch_index]
        }
        packed = pack(batch, model=self.model, adapter=adapter)
        images = adapter.image_inputs(list(self.seen.values()), batch.images, packed.image_of)
        last = max(map(len, answers))
        logits = written_logits(self.model, packed, images=images, last=last)
        lengths = torch.tensor([len(answer) for answer in answers], device=logits.device)
        # Answers end together; scores are of what begins together.
        steps = torch.arange(last, device=logits.device)
        places = (last - lengths.unsqueeze(1) + steps).clamp(max=last - 1)
        logits = logits.take_along_dim(places.unsqueeze(-1), dim=1)
        tokens = torch.tensor([[*answer, *[0] * (last - len(answer))] for answer in answers], device=logits.device)
        scores = score_tokens(logits, tokens, lengths)
        return [
            {"log_prob": log_prob, "mean_entropy": entropy}
            for log_prob, entropy in zip(scores.log_prob.tolist(), scores.mean_entropy.tolist(), strict=True)
        ]

    def _see(self, size: Size) -> torch.Tensor:
        encoded = self.encoder.adapter.encode_images(self.encoder.processor, [blank_canvas(size)])
        tensors = {name: tensor.to(self.device) for name, tensor in encoded.tensors.items()}
        [seen] = self.encoder.adapter.see_images(self.model, tensors)
        return seen


def score_blanked(
    table: "Dataset",
    answers: Sequence[Sequence[int]],
    checkpoint: Checkpoint,
    *,
    batch_size: int,
    accelerator: str,
    progress: bool,
) -> list[BlankedAnswer]:
    """Score a model's own answers before blank images.

    Args:
        table: The questions.
        answers: The tokens of the model's answer to each, its end included; at least one.
        checkpoint: The model and its encoder.
        batch_size: Questions a batch; scores do not depend on it, but for rounding.
        accelerator: Lightning's name of the device.
        progress: Show a progress bar with the time left.

    Returns:
        One for each question, in table order.

    Raises:
        ReliabitError: The model takes no blank image of one of the sizes.
    """
    if not answers:
        return []
    sizes, texts, ids = _sizes(table), table["question"][:], table["question_id"][:]
    order = sorted(range(len(answers)), key=lambda row: (sizes[row], len(texts[row])))
    files = {size: _file(blank_canvas(size)) for size in set(sizes)}
    rows: Any = [
        {
            "question_id": ids[row],
            "question": texts[row],
            "source": "blank images",
            "image_id": "x".join(map(str, sizes[row])),
            "image": files[sizes[row]],
            "answer_tokens": answers[row],
        }
        for row in order
    ]

    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    module = Blanked(
        checkpoint,
        answers=[[answers[row] for row in batch] for batch in batches],
        sizes=[list(dict.fromkeys(sizes[row] for row in batch)) for batch in batches],
    )
    # A model that is worn out may answer with the very token that stands for an image, and none belongs to it.
    image, stand_in = checkpoint.encoder.processor.image_token_id, module.ends[0]

    def collate(asked: Sequence[dict[str, Any]]) -> Batch:
        read = [[stand_in if token == image else token for token in row["answer_tokens"]] for row in asked]
        return followed_by(checkpoint.encoder(asked), read)

    loader = batches_of(rows, collate, batch_size=batch_size)
    with dequantized_once(checkpoint.model, dtype=checkpoint.model.dtype):
        found = predict(module, loader, accelerator=accelerator, progress=progress, title="looking at blank images")
    return restored([BlankedAnswer(**scores) for batch in found for scores in batch], order)


def followed_by(batch: Batch, answers: Sequence[Sequence[int]]) -> Batch:
    """The same prompts with an answer behind each, padded on the left.

    An answer, and the token that it is predicted from, count as a question's own: packing shares neither.

    Args:
        batch: Encoded questions.
        answers: The tokens of an answer to each.
    """
    last = max(map(len, answers))

    def extended(tensor: torch.Tensor, behind: Sequence[Sequence[int]]) -> torch.Tensor:
        rows = [
            # What pads is of no meaning but where it says that it is padding.
            torch.cat([tensor.new_zeros(last - len(own)), row, tensor.new_tensor(own)])
            for row, own in zip(tensor, behind, strict=True)
        ]
        return torch.stack(rows)

    ones, zeros = ([[value] * len(answer) for answer in answers] for value in (1, 0))
    fill = {"input_ids": answers, "attention_mask": ones, "mm_token_type_ids": zeros}
    own = batch.question_tokens.clone()
    own[:, -1] = True
    return Batch(
        question_ids=batch.question_ids,
        text={name: extended(tensor, fill[name]) for name, tensor in batch.text.items()},
        images=batch.images,
        image_of=batch.image_of,
        image_tokens=extended(batch.image_tokens, zeros),
        question_tokens=extended(own, ones),
    )


def _sizes(table: "Dataset") -> list[Size]:
    """The size of each row's image, read once an image; no shift changes it."""
    keys = list(zip(table["source"], table["image_id"], strict=True))
    firsts = {key: row for row, key in reversed(list(enumerate(keys)))}
    images = table.select(list(firsts.values()))["image"]
    known = {
        key: image_size(image, item=f"image {key[1]!r} of {key[0]}") for key, image in zip(firsts, images, strict=True)
    }
    return [known[key] for key in keys]


def _file(image: "Image") -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
