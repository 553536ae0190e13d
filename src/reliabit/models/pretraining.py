"""Training a reference model: the LightningModule that learns the answers, and the loop around it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch
from torch.utils.data import DataLoader

from reliabit.models.batches import IGNORED, ImageQuestions, TrainingBatches, ValidationBatches, by_image
from reliabit.models.encoding import Encoder
from reliabit.models.settings import Recipe
from reliabit.progress import Step, step

if TYPE_CHECKING:
    from datasets import Dataset as Table
    from transformers import PreTrainedModel

Groups = Mapping[str, list[ImageQuestions]]


class Pretraining(lightning.LightningModule):  # type: ignore[misc]
    """Teaches a multimodal model to answer, by the cross-entropy of the answer's tokens; all weights are trained."""

    def __init__(
        self, model: "PreTrainedModel", *, train: Groups, validation: Groups, encoder: Encoder, recipe: Recipe
    ) -> None:
        """Wrap a model in float32; the splits are those of each source, by image."""
        super().__init__()
        self.model = model
        self.groups = {"train": train, "validation": validation}
        self.encoder = encoder
        self.recipe = recipe

    def training_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor:
        """The loss of one batch."""
        logits, labels = self._answer(batch)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The share of questions, by source, whose every answer token greedy decoding would get right."""
        logits, labels = self._answer(batch)
        right = ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(-1).float()
        self.log(f"right/{batch['source']}", right.mean(), batch_size=len(right), prog_bar=True)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The batches of the current epoch; the trainer asks again for each one."""
        batches = TrainingBatches(
            self.groups["train"], encoder=self.encoder, recipe=self.recipe, epoch=self.current_epoch
        )
        return DataLoader(batches, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation batches."""
        batches = ValidationBatches(
            self.groups["validation"], encoder=self.encoder, images=self.recipe.validation_images
        )
        return DataLoader(batches, batch_size=None, shuffle=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a one-cycle schedule over all steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.recipe.learning_rate, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.recipe.learning_rate,
            total_steps=self.recipe.steps + 1,
            pct_start=min(0.1, self.recipe.warmup_steps / self.recipe.steps),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _answer(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        shared = self.encoder.adapter.shared_images(self.model, batch["images"], batch["image_of"])
        logits = self.model(**batch["text"], **shared, use_cache=False).logits
        return logits[:, :-1].float(), batch["labels"][:, 1:]


class EpochReport(lightning.Callback):  # type: ignore[misc]
    """Counts steps, and prints one line an epoch."""

    def __init__(self, shown: Step) -> None:
        self.shown = shown

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Count, from where a training that was cut off goes on."""
        self.shown.advance(trainer.global_step - self.shown.done)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the step and the metrics."""
        if not trainer.sanity_checking:
            shown = {name: round(value.item(), 4) for name, value in trainer.callback_metrics.items()}
            print(f"step {trainer.global_step} of {trainer.max_steps}: {shown}", flush=True)  # noqa: T201


def train(
    model: "PreTrainedModel",
    *,
    encoder: Encoder,
    train_tables: "Mapping[str, Table]",
    validation_tables: "Mapping[str, Table]",
    recipe: Recipe,
    checkpoints: Path,
    precision: str,
    accelerator: str,
    progress_bar: bool,
) -> dict[str, float]:
    """Train a model in place; a run that was cut off goes on from its last epoch.

    Args:
        model: The model, in float32.
        encoder: Encodes prompts and images for the model.
        train_tables: The training split of each source.
        validation_tables: The validation split of each source.
        recipe: How to train.
        checkpoints: Where the state of the training is kept.
        precision: Lightning's name of the precision, such as `bf16-mixed`.
        accelerator: Lightning's name of the device, such as `cpu`.
        progress_bar: Show a progress bar, not only a line an epoch.

    Returns:
        The last validation metrics.
    """
    # Short sequences: the fused CPU kernel's backward pass takes four times as long as plain matrix products.
    model.set_attn_implementation("eager")
    module = Pretraining(
        model,
        train={name: by_image(table) for name, table in train_tables.items()},
        validation={name: by_image(table) for name, table in validation_tables.items()},
        encoder=encoder,
        recipe=recipe,
    )
    metrics = fit(
        module,
        steps=recipe.steps,
        checkpoints=checkpoints,
        precision=precision,
        accelerator=accelerator,
        progress_bar=progress_bar,
    )
    model.set_attn_implementation("sdpa")
    return metrics


def fit(
    module: lightning.LightningModule,
    *,
    steps: int,
    checkpoints: Path,
    precision: str,
    accelerator: str,
    progress_bar: bool,
    callbacks: Sequence[lightning.Callback] = (),
) -> dict[str, float]:
    """Run a training; one that was cut off goes on from its last epoch.

    Args:
        module: What is trained, with its batches.
        steps: Optimizer steps.
        checkpoints: Where the state of the training is kept.
        precision: Lightning's name of the precision.
        accelerator: Lightning's name of the device.
        progress_bar: Show a progress bar, not only a line an epoch.
        callbacks: What else looks on.

    Returns:
        The last metrics.
    """
    last = checkpoints / "last.ckpt"
    with step("training", total=steps, unit="steps", shown=progress_bar) as shown, warnings.catch_warnings():
        # A folder that holds a checkpoint is what going on from it means.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,
            max_steps=steps,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[
                *callbacks,
                lightning.callbacks.ModelCheckpoint(dirpath=checkpoints, filename="last", enable_version_counter=False),
                EpochReport(shown),
            ],
        )
        trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}
