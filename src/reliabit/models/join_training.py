"""Joining pretrained parts: a connector and adapters are trained between a frozen tower and a frozen decoder."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from reliabit.models.batches import IGNORED
from reliabit.models.encoding import Encoder
from reliabit.models.join_batches import JoiningBatches, SeenBatch, Sources, ValidationBatches
from reliabit.models.pretrained.learned import POST_NORM, SCALE
from reliabit.models.pretraining import fit
from reliabit.models.settings import JoiningRecipe
from reliabit.models.tower_features import TowerFeatures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Joining(lightning.LightningModule):  # type: ignore[misc]
    """Teaches a connector, adapters and the decoder's norms to answer, by the cross-entropy of answer tokens."""

    def __init__(
        self, model: "PreTrainedModel", *, train: Sources, validation: Sources, encoder: Encoder, recipe: JoiningRecipe
    ) -> None:
        """Freeze a model in float32 but for what is learned; see `adapt`."""
        super().__init__()
        # What is frozen need not be kept with each epoch.
        self.strict_loading = False
        self.model = model
        self.sources = {"train": train, "validation": validation}
        self.encoder, self.recipe = encoder, recipe
        self.placeholder = encoder.adapter.placeholder(encoder.processor, (1, 1))
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, batch: SeenBatch) -> torch.Tensor:
        """The decoder's last states, normalized, `[images, tokens, width]`."""
        found: Any = self.model
        questions, inner = batch.questions, found.model
        norm = inner.vision_model.post_layernorm
        seen = inner.connector(self.dropout(batch.features * norm.weight + norm.bias))
        embedded = inner.inputs_merger(
            input_ids=questions.ids, inputs_embeds=inner.get_input_embeddings()(questions.ids), image_hidden_states=seen
        )
        states: torch.Tensor = inner.text_model(
            inputs_embeds=embedded,
            attention_mask=questions.mask(),
            position_ids=questions.positions,
            use_cache=False,
        ).last_hidden_state
        return states

    def on_train_batch_start(self, batch: list[SeenBatch], batch_index: int) -> None:
        """Let what is dropped depend on the step alone, and not on whether the training was cut off before."""
        torch.manual_seed(self.recipe.seed + self.global_step)

    def training_step(self, batches: list[SeenBatch], batch_index: int) -> torch.Tensor:
        """The loss of one step, every answer token of it counting the same."""
        found: Any = self.model
        losses = []
        for batch in batches:
            labels = batch.questions.labels[:, 1:]
            # The head has as many rows as there are words: it reads no position that predicts none of an answer.
            logits = found.lm_head(self(batch)[:, :-1][labels != IGNORED])
            losses.append(nn.functional.cross_entropy(logits, labels[labels != IGNORED], reduction="none"))
        loss = torch.cat(losses).mean()
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget what was counted."""
        self.counted: dict[str, list[bool]] = defaultdict(list)

    def validation_step(self, batch: SeenBatch, batch_index: int) -> None:
        """Count the questions, by source and kind, whose every answer token greedy decoding would get right."""
        found: Any = self.model
        questions = batch.questions
        at = questions.labels[:, 1:] != IGNORED
        predicted = torch.full_like(questions.ids, IGNORED)
        predicted[:, 1:][at] = found.lm_head(self(batch)[:, :-1][at]).argmax(-1)
        for types, rights in zip(questions.types, questions.right(predicted), strict=True):
            for kind, right in zip(types, rights, strict=True):
                self.counted[f"right/{batch.source}.{kind}"].append(right)
                self.counted[f"right/{batch.source}"].append(right)

    def on_validation_epoch_end(self) -> None:
        """Log the shares."""
        for name, rights in sorted(self.counted.items()):
            self.log(name, sum(rights) / len(rights))

    def train_dataloader(self) -> DataLoader[list[SeenBatch]]:
        """The batches of the current epoch; the trainer asks again for each one."""
        batches = JoiningBatches(
            self.sources["train"],
            encoder=self.encoder,
            placeholder=self.placeholder,
            recipe=self.recipe,
            epoch=self.current_epoch,
        )
        return DataLoader(batches, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[SeenBatch]:
        """The validation batches."""
        batches = ValidationBatches(
            self.sources["validation"],
            encoder=self.encoder,
            placeholder=self.placeholder,
            images=self.recipe.validation_images,
        )
        return DataLoader(batches, batch_size=None, shuffle=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a warm-up and a linear descent to zero; the connector has a rate of its own."""
        recipe = self.recipe
        groups: dict[str, list[torch.Tensor]] = {"connector": [], "adapter": [], "norm": []}
        for name, tensor in self.model.named_parameters():
            if tensor.requires_grad:
                group = "connector" if ".connector." in name else "norm" if "norm" in name else "adapter"
                groups[group].append(tensor)
        optimizer = torch.optim.AdamW(
            [
                {"params": groups["connector"], "lr": recipe.connector_rate},
                {"params": groups["adapter"], "lr": recipe.adapter_rate},
                # Near one by design, and not near zero.
                {"params": groups["norm"], "lr": recipe.adapter_rate, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda done: min((done + 1) / recipe.warmup_steps, (recipe.steps - done) / recipe.steps),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is learned, and leave out what is frozen."""
        learned = {f"model.{name}" for name, tensor in self.model.named_parameters() if tensor.requires_grad}
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in learned}


class Curve(lightning.Callback):  # type: ignore[misc]
    """The metrics of every epoch; kept with the training's state, so that one that goes on has those before."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row; validation has been done by then."""
        # The epoch after which a training was cut off ends once more when it goes on, without metrics.
        if not self.rows or self.rows[-1]["step"] < trainer.global_step:
            values = {name: value.item() for name, value in trainer.callback_metrics.items()}
            self.rows.append({"step": trainer.global_step, **values})

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the training that goes on."""
        self.rows = state_dict["rows"]


def adapt(model: "PreTrainedModel", recipe: JoiningRecipe) -> None:
    """Freeze a model but for its connector, low-rank adapters beside some layers of its decoder, and its norms.

    Args:
        model: An Idefics3 model; it is changed in place.
        recipe: Names the layers that are adapted, and the rank of their adapters.
    """
    from peft import LoraConfig, inject_adapter_in_model

    found: Any = model
    model.requires_grad_(False)
    found.model.connector.requires_grad_(True)
    decoder = found.model.text_model
    settings = LoraConfig(r=recipe.rank, lora_alpha=round(recipe.rank * SCALE), target_modules=list(recipe.adapted))
    inject_adapter_in_model(settings, decoder)
    for name, tensor in decoder.named_parameters():
        if "norm" in name:
            tensor.requires_grad_(True)


def learned_tensors(model: "PreTrainedModel") -> dict[str, torch.Tensor]:
    """What was learned, and the moments in the tower's last norm, by their names in the model that is assembled."""
    adapter = ".default."
    learned = {name.replace(adapter, "."): tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    norm = {name: tensor for name, tensor in model.named_parameters() if name.startswith(POST_NORM)}
    return {**learned, **norm}


def standardize(model: "PreTrainedModel", features: Sequence[TowerFeatures]) -> None:
    """Let the tower's last norm give each channel a mean of 0 and a deviation of 1 over some tables' features."""
    moments = [one.moments() for one in features]
    counts = torch.tensor([float(sum(len(chunk) for chunk in one.chunks)) for one in features], dtype=torch.float64)
    share = (counts / counts.sum())[:, None]
    mean = (share * torch.stack([mean for mean, _ in moments])).sum(0)
    squares = (share * torch.stack([square for _, square in moments])).sum(0)
    deviation = (squares - mean**2).sqrt()
    found: Any = model
    norm = found.model.vision_model.post_layernorm
    with torch.no_grad():
        norm.weight.copy_(1 / deviation)
        norm.bias.copy_(-mean / deviation)


def join(
    model: "PreTrainedModel",
    *,
    train: Sources,
    validation: Sources,
    encoder: Encoder,
    recipe: JoiningRecipe,
    checkpoints: Path,
    progress_bar: bool,
) -> list[dict[str, float]]:
    """Train what joins the parts of a model, in place; a training that was cut off goes on from its last epoch.

    Args:
        model: The model in float32, as `adapt` left it, with the features' moments in its `post_layernorm`.
        train: The training split of each source.
        validation: The validation split of each source.
        encoder: Encodes prompts for the model.
        recipe: How to train.
        checkpoints: Where the state of the training is kept.
        progress_bar: Show a progress bar, not only a line an epoch.

    Returns:
        The metrics of each epoch.
    """
    module, curve = Joining(model, train=train, validation=validation, encoder=encoder, recipe=recipe), Curve()
    module.train()
    fit(
        module,
        steps=recipe.steps,
        checkpoints=checkpoints,
        precision="32-true",
        accelerator="cpu",
        progress_bar=progress_bar,
        callbacks=[curve],
    )
    return curve.rows
