"""Running a model over batches: what every LightningModule here has in common, and the loop.

Numbers that are not finite are told apart from answers at the first batch, with the place where they begin.
"""

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reliabit.errors import NotFiniteError
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint
from reliabit.models.spread import is_spread
from reliabit.progress import Step, step

if TYPE_CHECKING:
    from datasets import Dataset

HALF_REMEDY = "set model.dtype=bfloat16 or model.dtype=float32"
REMEDY = "its weights are damaged or not what its config.json says, or too few bits are left of them (quant.bits)"


class Predicting(lightning.LightningModule):  # type: ignore[misc]
    """A model that answers in one way or another, and is never trained; subclasses say what a step does.

    A number that is not finite ends the loop at its batch, before anything of it is kept.

    Args:
        checkpoint: The model and its encoder.
    """

    model: Any

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        if is_spread(checkpoint.model):
            # Lightning moves the modules that it knows of to one device, and this one does not fit there.
            object.__setattr__(self, "model", checkpoint.model)
        else:
            self.model = checkpoint.model
        self.encoder = checkpoint.encoder
        self.ends = _ends_of(checkpoint)

    def step(self, batch: Batch, batch_index: int) -> list[Any]:
        """Answer a batch of encoded questions; numbers that are not finite are given as they are."""
        raise NotImplementedError

    def not_finite(self, batch: Batch, found: list[Any]) -> list[str]:
        """The questions of a batch for which a step gave numbers that are not finite."""
        return [name for name, one in zip(batch.question_ids, found, strict=True) if not is_finite(one)]

    def texts_of(self, tokens: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """The texts of generated tokens, `[questions, steps]`, as far as answers are long; special tokens left out."""
        kept = [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
        return [text.strip() for text in self.encoder.processor.tokenizer.batch_decode(kept, skip_special_tokens=True)]

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
            raise _overflow(self.model, partial(self.step, batch, batch_index), questions=questions)
        return found

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the model's device."""
        return batch.to(device)


def _ends_of(checkpoint: Checkpoint) -> list[int]:
    """The tokens that end an answer: the one of the family's prompt, and those that the checkpoint ships."""
    shipped = checkpoint.model.generation_config.eos_token_id
    own = checkpoint.encoder.processor.tokenizer.convert_tokens_to_ids(checkpoint.encoder.adapter.end_of_answer)
    return sorted({own, *([] if shipped is None else [shipped] if isinstance(shipped, int) else shipped)})


class _AfterEachBatch(lightning.Callback):  # type: ignore[misc]
    """Keeps what was found, counts batches, and ends the process after SIGTERM, which Lightning otherwise ignores here.

    Lightning, where it keeps results itself, looks into each number of each answer for tensors to be moved.
    """

    def __init__(self, shown: Step) -> None:
        self.shown = shown
        self.found: list[Any] = []

    def on_predict_batch_end(self, trainer: lightning.Trainer, module: object, outputs: Any, *_: Any) -> None:
        """Keep and count, and stop where the process was told to."""
        self.found.append(outputs)
        self.shown.advance()
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)


def batches_of(
    table: "Dataset", encode: Callable[[Sequence[dict[str, Any]]], Batch], *, batch_size: int
) -> "DataLoader[Any]":
    """The questions of a table in order, encoded a batch at a time as they are loaded.

    Args:
        table: The questions.
        encode: Encodes some rows of it, such as a checkpoint's encoder.
        batch_size: Questions a batch.
    """
    rows: Any = table
    return DataLoader(rows, batch_size=batch_size, shuffle=False, collate_fn=encode)


def predict(
    module: Predicting, batches: "DataLoader[Any]", *, accelerator: str, progress: bool, title: str = ""
) -> list[Any]:
    """Run a module's `predict_step` over batches, in order; what it returned for each.

    Where there is no title, it is shown as a part of what is done already.
    """
    with step(title or "this part", total=len(batches), unit="batches", shown=progress, part=not title) as shown:
        after_each = _AfterEachBatch(shown)
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[after_each],
        )
        trainer.predict(module, batches, return_predictions=False)
        return after_each.found


class _FoundError(Exception):
    """Ends a pass at the module that was looked for."""


def is_finite(found: object) -> bool:
    """Whether all floating-point numbers in what a model gave are finite.

    >>> is_finite([{"answer": "two", "log_prob": -0.5}]), is_finite({"scores": (1.0, float("nan"))})
    (True, False)
    """
    if isinstance(found, Tensor):
        return not found.is_floating_point() or bool(torch.isfinite(found).all())
    if isinstance(found, float):
        # NaN is not even itself.
        return found - found == 0
    if isinstance(found, Mapping):
        return all(is_finite(value) for value in found.values())
    return not isinstance(found, list | tuple) or all(is_finite(value) for value in found)


def _overflow(model: Any, compute: Callable[[], object], *, questions: Iterable[str]) -> NotFiniteError:
    """What to say of questions of a batch whose numbers are not finite; the batch is computed again to see where."""
    names, dtype, place = list(questions), str(model.dtype).removeprefix("torch."), first_overflow(model, compute)
    where = "" if place is None else f", from {place} on"
    return NotFiniteError(
        f"the model's numbers are not finite in {dtype}{where}, for {len(names)} questions of a batch, "
        f"{', '.join(names[:1])} among them; {HALF_REMEDY if model.dtype == torch.float16 else REMEDY}"
    )


def first_overflow(model: nn.Module, compute: Callable[[], object]) -> str | None:
    """The first module whose output is not finite, in the order of computing, or None where there is none.

    Args:
        model: The model; what is inside a module comes before the module.
        compute: Runs it; it is stopped there.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> _ = nn.init.constant_(model[1].bias, float("inf"))
        >>> first_overflow(model, lambda: model(torch.ones(1, 2)))
        '1'
    """
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if not is_finite(output):
                found.append(name)
                raise _FoundError

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules()]
    try:
        compute()
    except (_FoundError, NotFiniteError):
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
