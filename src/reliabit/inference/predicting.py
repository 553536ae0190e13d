"""Running a model over batches: what every LightningModule here has in common, and the loop."""

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch

from reliabit.errors import NotFiniteError
from reliabit.inference.overflow import is_finite, overflow
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint
from reliabit.models.spread import is_spread

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class Predicting(lightning.LightningModule):  # type: ignore[misc]
    """A model that answers in one way or another, and is never trained; subclasses say what a step does.

    A number that is not finite ends the loop at its batch, before anything of it is kept.
    """

    model: Any

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Wrap a model.

        Args:
            checkpoint: The model and its encoder.
        """
        super().__init__()
        if is_spread(checkpoint.model):
            # Lightning moves the modules that it knows of to one device, and this one does not fit there.
            object.__setattr__(self, "model", checkpoint.model)
        else:
            self.model = checkpoint.model
        self.encoder = checkpoint.encoder
        self.ends = ends_of(checkpoint)

    def step(self, batch: Batch, batch_index: int) -> list[Any]:
        """Answer a batch; numbers that are not finite are given as they are.

        Args:
            batch: Encoded questions.
            batch_index: Its number.
        """
        raise NotImplementedError

    def not_finite(self, batch: Batch, found: list[Any]) -> list[str]:
        """The questions of a batch for which a step gave numbers that are not finite."""
        return [name for name, one in zip(batch.question_ids, found, strict=True) if not is_finite(one)]

    def predict_step(self, batch: Batch, batch_index: int) -> list[Any]:
        """Answer a batch, as `step` does.

        Raises:
            NotFiniteError: A number of an answer is NaN or infinite; it says in which type and from where on.
        """
        try:
            found = self.step(batch, batch_index)
            questions = self.not_finite(batch, found)
        except NotFiniteError:
            questions = batch.question_ids
        if questions:
            raise overflow(self.model, partial(self.step, batch, batch_index), questions=questions)
        return found

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the model's device."""
        return batch.to(device)


def ends_of(checkpoint: Checkpoint) -> list[int]:
    """The tokens that end an answer: the one of the family's prompt, and those that the checkpoint ships."""
    shipped = checkpoint.model.generation_config.eos_token_id
    own = checkpoint.encoder.processor.tokenizer.convert_tokens_to_ids(checkpoint.encoder.adapter.end_of_answer)
    return sorted({own, *([] if shipped is None else [shipped] if isinstance(shipped, int) else shipped)})


class StopsWhenTold(lightning.Callback):  # type: ignore[misc]
    """Ends the process at the batch after SIGTERM, which Lightning notes and otherwise ignores while predicting."""

    def on_predict_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop where the process was told to."""
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)


def predict(module: Predicting, batches: "DataLoader[Any]", *, accelerator: str, progress: bool) -> list[Any]:
    """Run a module's `predict_step` over batches, in order; what it returned for each."""
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        callbacks=[StopsWhenTold()],
    )
    return trainer.predict(module, batches) or []
