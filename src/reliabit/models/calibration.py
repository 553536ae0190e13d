"""Calibration batches for a checkpoint: rows of a VQA table with their answers, as its own processor encodes them."""

from collections.abc import Sequence
from typing import Any

import torch

from reliabit.data.table import decode_image
from reliabit.models.encoding import Encoder
from reliabit.models.training_batches import IGNORED, encode_answered
from reliabit.quant.mbq.calibration_set import CalibrationBatch


def calibration_batches(
    rows: Sequence[dict[str, Any]], *, encoder: Encoder, batch_size: int, device: str = "cpu"
) -> list[CalibrationBatch]:
    """Encode questions and their first reference answers, each with an image of its own.

    Args:
        rows: Rows of a VQA table.
        encoder: The checkpoint's encoder.
        batch_size: Sequences a batch.
        device: Where to put the tensors.

    Returns:
        Batches for the model's own forward pass, which decides on positions and masks.
    """
    return [_batch(rows[start : start + batch_size], encoder, device) for start in range(0, len(rows), batch_size)]


def _batch(rows: Sequence[dict[str, Any]], encoder: Encoder, device: str) -> CalibrationBatch:
    images = [decode_image(row["image"], item=f"question {row['question_id']!r} of {row['source']}") for row in rows]
    encoded = encode_answered(rows, images=images, image_of=list(range(len(rows))), encoder=encoder)
    text, labels = encoded["text"], encoded["labels"]
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    inputs = {name: tensor.to(device) for name, tensor in (text | encoded["images"]).items()}
    return CalibrationBatch(
        inputs=inputs,
        vision=inputs["input_ids"] == encoder.processor.image_token_id,
        targets=targets.to(device),
        attended=inputs["attention_mask"].bool(),
    )
