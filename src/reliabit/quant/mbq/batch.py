"""What calibration looks at: sequences that hold an image, a question and its answer, and which token is which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reliabit.errors import ReliabitError

IGNORED = -100
"""The target of a position that predicts no answer token, as in transformers."""

MODALITIES = ("answer", "vision", "other")
ANSWER, VISION, OTHER = range(3)


@dataclass(frozen=True)
class CalibrationBatch:
    """A batch of sequences, padded on either side.

    A position counts as an answer position when its output predicts a token of the answer: the last position of the
    prompt is one, the token that ends the answer is none, because nothing is read from its output.

    Attributes:
        inputs: Keyword arguments of the model's forward pass.
        vision: Positions of image tokens, bool `[sequences, tokens]`.
        targets: The answer token that each position predicts, `IGNORED` elsewhere, int64 `[sequences, tokens]`.
        attended: Positions that are no padding, bool `[sequences, tokens]`.
    """

    inputs: dict[str, Any]
    vision: Tensor
    targets: Tensor
    attended: Tensor

    @property
    def answer(self) -> Tensor:
        """Answer positions, bool `[sequences, tokens]`."""
        return (self.targets != IGNORED) & self.attended

    def kinds(self) -> Tensor:
        """The modality of each token that is no padding, in order: uint8 `[tokens]`, an index into `MODALITIES`.

        Example:
            >>> yes, no = True, False
            >>> batch = CalibrationBatch(
            ...     inputs={},
            ...     vision=torch.tensor([[no, yes, no, no]]),
            ...     targets=torch.tensor([[-100, -100, -100, 7]]),
            ...     attended=torch.tensor([[no, yes, yes, yes]]),
            ... )
            >>> batch.kinds()
            tensor([1, 2, 0], dtype=torch.uint8)
        """
        kinds = torch.full(self.targets.shape, OTHER, dtype=torch.uint8)
        kinds[self.vision.cpu()] = VISION
        kinds[self.answer.cpu()] = ANSWER
        return kinds[self.attended.cpu()]


def check_batches(batches: Sequence[CalibrationBatch]) -> None:
    """Refuse a calibration set from which nothing about one of the modalities can be learned.

    Raises:
        ReliabitError: No sequences, no image tokens, or a sequence without answer tokens.
    """
    if not batches:
        raise ReliabitError("the calibration set is empty; give it at least one image with a question and its answer")
    if not any(bool((batch.vision & batch.attended).any()) for batch in batches):
        raise ReliabitError("the calibration set has no image tokens; calibrate with questions about images")
    for number, batch in enumerate(batches):
        silent = (~batch.answer.any(dim=1)).nonzero()
        if len(silent):
            raise ReliabitError(
                f"sequence {int(silent[0])} of calibration batch {number} has no answer tokens; "
                "give every question of the calibration set an answer"
            )
