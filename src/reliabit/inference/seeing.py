"""Seeing: encoding questions and running the vision tower, apart from the decoder that answers."""

from dataclasses import replace
from typing import Any

import lightning.pytorch as lightning
import torch

from reliabit.models.checkpoint import Checkpoint
from reliabit.models.encoding import Batch


class Seeing(lightning.LightningModule):  # type: ignore[misc]
    """Runs the vision tower on the images of a batch."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = checkpoint.model
        self.adapter = checkpoint.encoder.adapter

    def predict_step(self, batch: Batch, batch_index: int) -> list[Batch]:
        """See the images of a batch.

        Args:
            batch: Encoded questions.
            batch_index: Unused; Lightning gives it.

        Returns:
            The same batch, alone in a list: seen, without the images' pixels, in the memory of the host.
        """
        seen = self.adapter.see_images(self.model, batch.images)
        described = {name: batch.images[name] for name in self.adapter.described_by}
        return [replace(batch, images=described, seen=seen).to(torch.device("cpu"))]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to the model's device."""
        return batch.to(device)
