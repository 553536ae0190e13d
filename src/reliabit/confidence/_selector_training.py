"""Training a Selector: the LightningModule, and the choice of the state that ranks validation examples best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from reliabit.confidence.examples import Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.selector import (
    SelectorInputs,
    SelectorNetwork,
    TrainedSelector,
    confidences,
    selector_inputs,
    standardizer,
)
from reliabit.confidence.settings import SelectorSettings
from reliabit.data.splits import check_disjoint
from reliabit.errors import ReliabitError
from reliabit.metrics.functional import aurc
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.progress import Step, step
from reliabit.threads import one_thread

MEMORY = 2**30
"""Bytes up to which a role's inputs are held in memory as float32; larger ones are read batch by batch."""


@dataclass(frozen=True, eq=False)
class LabelledInputs(Dataset[tuple[Tensor, Tensor]]):
    """Inputs and accuracies of N answers; an index is the list of a batch's rows."""

    inputs: SelectorInputs
    accuracy: FloatArray

    def __len__(self) -> int:
        return len(self.accuracy)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        index = np.array(rows)
        return torch.from_numpy(self.inputs.gather(index)), torch.from_numpy(self.accuracy[index]).float()


class SelectorTraining(lightning.LightningModule):  # type: ignore[misc]
    """Regresses the soft accuracy by binary cross-entropy."""

    def __init__(self, network: SelectorNetwork, *, train: LabelledInputs, settings: SelectorSettings) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network
        self.train_set = train
        self.settings = settings

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of one batch."""
        inputs, accuracy = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.network(inputs), accuracy)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(accuracy))
        return loss

    def train_dataloader(self) -> DataLoader[Any]:
        """The training examples in a new order every pass."""
        batches = BatchSampler(RandomSampler(self.train_set), self.settings.batch_size, drop_last=False)
        return DataLoader(self.train_set, sampler=batches, batch_size=None)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, its learning rate falling linearly to 0 over all passes."""
        settings = self.settings
        steps = settings.epochs * -(-len(self.train_set) // settings.batch_size)
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class BestState(lightning.Callback):  # type: ignore[misc]
    """Keeps the state with the smallest validation AURC, the first of equals, and ends what no longer improves.

    Lightning's own callbacks compare in float32 and keep states on disk.
    """

    def __init__(self, validation: LabelledInputs, *, patience: int, shown: Step) -> None:
        """Watch a training; `patience` passes without a better AURC end it."""
        self.shown = shown
        self.validation = validation
        self.patience = patience
        self.history: list[float] = []
        self.state: dict[str, Tensor] = {}

    @property
    def epoch(self) -> int:
        """The best pass, from 1."""
        return int(np.argmin(self.history)) + 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measure; keep a better state; end training where none came for long."""
        module = cast("SelectorTraining", pl_module)
        ranked = confidences(module.network, self.validation.inputs)
        if not np.isfinite(ranked).all():
            rate = module.settings.learning_rate
            raise ReliabitError(f"the Selector's training diverged with a learning rate of {rate:g}; lower it")
        self.history.append(aurc(ranked, self.validation.accuracy))
        self.shown.advance()
        if self.epoch == len(self.history):
            self.state = {name: tensor.detach().cpu().clone() for name, tensor in module.network.state_dict().items()}
        trainer.should_stop = len(self.history) - self.epoch >= self.patience
        module.log("val_aurc", self.history[-1], prog_bar=True)


def train_selectors(
    train: Examples,
    validation: Examples,
    *,
    settings: SelectorSettings,
    seeds: Sequence[int],
    accelerator: str = "cpu",
    progress: bool = False,
    memory: int = MEMORY,
    logger: Logger | None = None,
) -> list[TrainedSelector]:
    """Train a Selector a seed on the same examples.

    A seed and the same inputs give the same weights on the same machine, whatever was drawn before; torch's own
    random state is left as it was.

    Args:
        train: What sets the weights and the standardizer.
        validation: What chooses the pass; it shares no image with `train`.
        settings: How to train.
        seeds: What weights, batches and dropout are drawn with.
        accelerator: Lightning's name of the device, such as `cpu`; the trained Selectors are on the CPU.
        progress: Show a progress bar.
        memory: Bytes up to which the inputs of each role are held in memory; the result does not depend on it.
        logger: Takes the loss and the validation AURC of every pass of the first seed's training.

    Returns:
        The Selectors in the order of the seeds, each with its validation AURC.

    Raises:
        ReliabitError: The roles share an image, a feature block is missing or of two widths or holds a NaN, or
            training diverges.
    """
    check_disjoint({"the Selector's training": train.image_keys, "its validation": validation.image_keys})
    inputs = selector_inputs(train, settings.inputs)
    others = selector_inputs(validation, settings.inputs)
    if inputs.widths != others.widths:
        raise ReliabitError(
            f"the Selector's training features have the widths {inputs.widths} and its validation features "
            f"{others.widths}; take both from one model"
        )
    widths = inputs.widths
    learned = LabelledInputs(inputs.held(memory=memory), train.accuracy)
    chooses = LabelledInputs(others.held(memory=memory), validation.accuracy)
    statistics = standardizer(learned.inputs) if settings.standardize else None
    fitted_on = FittedOn.images(train.image_keys, validation.image_keys)
    selectors = []
    for number, seed in enumerate(seeds):
        title = "training the Selector" + (f", {number + 1} of {len(seeds)}" if len(seeds) > 1 else "")
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            step(title, total=settings.epochs, unit="passes", shown=progress) as shown,
            one_thread(),
        ):
            torch.manual_seed(seed)
            network = SelectorNetwork(learned.inputs.width, hidden=settings.hidden, dropout=settings.dropout)
            if statistics is not None:
                network.set_standardizer(*statistics)
            best = BestState(chooses, patience=settings.patience, shown=shown)
            module = SelectorTraining(network, train=learned, settings=settings)
            own = logger if number == 0 else None
            _trainer(settings, callbacks=[best], accelerator=accelerator, logger=own).fit(module)
        network.cpu().load_state_dict(best.state)
        selectors.append(
            TrainedSelector(
                network=network.eval().requires_grad_(False),
                settings=settings,
                widths=widths,
                seed=seed,
                epoch=best.epoch,
                val_aurc=best.history[best.epoch - 1],
                history=tuple(best.history),
                fitted_on=fitted_on,
            )
        )
    return selectors


def _trainer(
    settings: SelectorSettings,
    *,
    callbacks: list[lightning.Callback],
    accelerator: str,
    logger: Logger | None,
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip,
        logger=logger or False,
        # What is logged is logged a pass.
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
