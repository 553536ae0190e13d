"""Seeing: encoding questions and running the vision tower, apart from the decoder that answers."""

from dataclasses import replace

import torch

from reliabit.inference.overflow import is_finite
from reliabit.inference.predicting import Predicting
from reliabit.models.encoding import Batch


class Seeing(Predicting):
    """Runs the vision tower on the images of a batch."""

    def step(self, batch: Batch, batch_index: int) -> list[Batch]:
        """See the images of a batch.

        Args:
            batch: Encoded questions.
            batch_index: Unused.

        Returns:
            The same batch, alone in a list: seen, without the images' pixels, in the memory of the host.
        """
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
