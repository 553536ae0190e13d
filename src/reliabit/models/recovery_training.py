"""Training the scales, zeros and norms of a packed model, by distillation from the model that it was quantized from.

The loss has two terms. Of questions of `train`, the divergence of the student's distribution from the teacher's at
each token of the reference answer. Of questions of `dev`, where a weight is given, a proper score of the student's
confidence that its own answer is right.

That confidence needs no decoding. Up to the first token where the student's first choice is not the reference's, its
greedy answer *is* the reference: the product of its first choices' probabilities up to there is the probability that it
gives what it says, and it is right where there is no such token. Where it is wrong, what it would say after the first
wrong token does not count.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reliabit.models.batches import IGNORED
from reliabit.models.encoding import Encoder
from reliabit.models.join_training import Curve
from reliabit.models.pretraining import fit
from reliabit.models.recovery_batches import DistilledBatch, HeldOutBatches, Questions, RecoveryBatches
from reliabit.models.settings import RecoveryRecipe
from reliabit.quant.module_names import component_of
from reliabit.quant.recovery import settle_scales, train_scales

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DECODER = ("language_attention", "language_mlp", "lm_head")
"""The components whose packed layers are trained; what sees images stays as it was quantized."""


def answer_logits(
    model: "PreTrainedModel", inputs: dict[str, Any], *, encoder: Encoder
) -> tuple[Tensor, Tensor, Tensor]:
    """What a model predicts at the tokens of reference answers.

    The head has as many rows as there are words: it reads no position that predicts none of an answer.

    Returns:
        Logits, `[answer tokens, words]`; those tokens; and the number of the question that each is of.
    """
    found: Any = model
    with torch.no_grad():
        shared = encoder.adapter.shared_images(model, inputs["images"], inputs["image_of"])
    states = found.model(**inputs["text"], **shared, use_cache=False).last_hidden_state
    labels = inputs["labels"][:, 1:]
    at = labels != IGNORED
    return found.get_output_embeddings()(states[:, :-1][at]).float(), labels[at], at.nonzero()[:, 0]


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """`KL(teacher || student)` of each row of logits, in nats.

    Example:
        >>> divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([0.])
    """
    said, expected = student.log_softmax(-1), teacher.log_softmax(-1)
    return nn.functional.kl_div(said, expected, log_target=True, reduction="none").sum(-1)


def judged_confidence(logits: Tensor, labels: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
    """A model's log-confidence in its own greedy answer to each question, and whether that is the reference answer.

    Args:
        logits: At the tokens of reference answers, question after question, `[answer tokens, words]`.
        labels: Those tokens.
        question: The question of each.

    Returns:
        The log-probability of the greedy answer up to its end or to its first wrong token, and whether there is none.

    Example:
        >>> logits = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]).log()
        >>> log_confidence, right = judged_confidence(logits, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]))
        >>> log_confidence.exp(), right
        (tensor([0.4800, 0.5000]), tensor([False,  True]))
    """
    best, choice = logits.log_softmax(-1).max(-1)
    _, number = torch.unique_consecutive(question, return_inverse=True)
    count = int(number[-1]) + 1
    wrong = (choice != labels).to(torch.long)
    # Wrong tokens of its question before each.
    before = wrong.cumsum(0) - wrong
    first = torch.zeros(count, dtype=torch.long).scatter_reduce(0, number, before, "amin", include_self=False)
    counted = torch.where(before == first[number], best, torch.zeros_like(best))
    log_confidence = torch.zeros(count, dtype=best.dtype).index_add(0, number, counted)
    misses = torch.zeros(count, dtype=torch.long).index_add(0, number, wrong)
    return log_confidence, misses == 0


def proper_score(log_confidence: Tensor, right: Tensor, *, rule: str) -> Tensor:
    """What a confidence costs, given whether the answer is right; on average least where it is the share of right ones.

    Args:
        log_confidence: Log-confidences.
        right: Whether each answer is right.
        rule: `brier`, the squared difference, or `log`, the negative log-likelihood.

    Example:
        >>> proper_score(torch.tensor([0.8, 0.8]).log(), torch.tensor([True, False]), rule="brier")
        tensor([0.0400, 0.6400])
    """
    if rule == "brier":
        return (log_confidence.exp() - right.float()) ** 2
    # A confidence that rounds to 1 would cost infinity where it is wrong; so it costs 16 nats at most.
    doubted = torch.log1p(-log_confidence.exp().clamp(max=1 - 1e-7))
    return -torch.where(right, log_confidence, doubted)


class Recovery(lightning.LightningModule):  # type: ignore[misc]
    """Trains the packed student towards the teacher; see the module."""

    def __init__(
        self,
        student: "PreTrainedModel",
        teacher: "PreTrainedModel",
        *,
        train: Questions,
        held_out: Questions,
        dev: Questions | None,
        encoder: Encoder,
        recipe: RecoveryRecipe,
    ) -> None:
        """Wrap a student as `open_for_training` left it."""
        super().__init__()
        # What is frozen need not be kept with each epoch, nor the teacher.
        self.strict_loading = False
        self.student = student
        self._teacher = [teacher]
        self.train_split, self.held_out, self.dev = train, held_out, dev
        self.encoder, self.recipe = encoder, recipe

    def training_step(self, batch: DistilledBatch, batch_index: int) -> Tensor:
        """The loss of one step: every answer token of `train` counts the same, and every question of `dev`."""
        logits, labels, question = answer_logits(self.student, batch.inputs, encoder=self.encoder)
        taught = question < batch.scored
        kl = divergence(self._expected(batch)[taught], logits[taught]).mean()
        self.log("kl", kl, on_step=False, on_epoch=True, batch_size=1)
        if self.dev is None:
            return kl
        confidence = judged_confidence(logits[~taught], labels[~taught], question[~taught])
        score = proper_score(*confidence, rule=self.recipe.score).mean()
        self.log("score", score, on_step=False, on_epoch=True, batch_size=1)
        return kl + self.recipe.reliability_weight * score

    def validation_step(self, batch: DistilledBatch, batch_index: int) -> None:
        """Watch the divergence, the share of right answers and the score, on images of `train` that are held out."""
        tokens, answers = self.measured(batch)
        for name, (value, count) in {**tokens, **answers}.items():
            self.log(name, value, on_epoch=True, batch_size=count)

    def measured(self, batch: DistilledBatch) -> tuple[dict[str, tuple[Tensor, int]], dict[str, tuple[Tensor, int]]]:
        """Means over the answer tokens and over the questions of a batch, each with how many it is of."""
        logits, labels, question = answer_logits(self.student, batch.inputs, encoder=self.encoder)
        log_confidence, right = judged_confidence(logits, labels, question)
        score = proper_score(log_confidence, right, rule=self.recipe.score)
        tokens = {"held_out/kl": (divergence(self._expected(batch), logits).mean(), len(labels))}
        return tokens, {
            "held_out/right": (right.float().mean(), len(right)),
            "held_out/score": (score.mean(), len(right)),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The same over all that is held out."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for batch in self.val_dataloader():
            for one in self.measured(batch):
                for name, (value, count) in one.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * count
                    counts[name] = counts.get(name, 0) + count
        return {name: total / counts[name] for name, total in sums.items()}

    def train_dataloader(self) -> DataLoader[DistilledBatch]:
        """The batches of the current epoch; the trainer asks again for each one."""
        batches = RecoveryBatches(
            self.train_split, self.dev, encoder=self.encoder, recipe=self.recipe, epoch=self.current_epoch
        )
        return DataLoader(batches, batch_size=None, shuffle=False)

    def val_dataloader(self) -> DataLoader[DistilledBatch]:
        """What is held out."""
        return DataLoader(HeldOutBatches(self.held_out, encoder=self.encoder), batch_size=None, shuffle=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with a warm-up and a linear descent to zero; all parameters are near where they belong."""
        recipe = self.recipe
        learned = [tensor for tensor in self.student.parameters() if tensor.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=recipe.learning_rate, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda done: min((done + 1) / recipe.warmup_steps, (recipe.steps - done) / recipe.steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is learned, and leave out what is frozen."""
        learned = {f"student.{name}" for name, tensor in self.student.named_parameters() if tensor.requires_grad}
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in learned}

    @torch.no_grad()
    def _expected(self, batch: DistilledBatch) -> Tensor:
        """The teacher's logits; it is no submodule, so that it is neither trained nor kept."""
        return answer_logits(self._teacher[0], batch.inputs, encoder=self.encoder)[0]


def open_for_training(student: "PreTrainedModel", encoder: Encoder) -> tuple[list[str], list[str]]:
    """Let scales, float zeros and norms of a packed model's decoder learn, and nothing else.

    Returns:
        The names of the packed layers, and of the norms' parameters.
    """
    student.requires_grad_(False)
    layers = train_scales(student, lambda name: component_of(name) in DECODER)
    inside, final = f"{encoder.adapter.decoder_layers}.", f"{encoder.adapter.final_norm}."
    norms = [
        name
        for name, _ in student.named_parameters()
        if name.startswith(final) or (name.startswith(inside) and "norm" in name)
    ]
    for name in norms:
        student.get_parameter(name).requires_grad_(True)
    return layers, norms


def recover_model(
    student: "PreTrainedModel",
    teacher: "PreTrainedModel",
    *,
    train: Questions,
    dev: Questions | None,
    encoder: Encoder,
    recipe: RecoveryRecipe,
    norm_types: dict[str, torch.dtype],
    checkpoints: Path,
    progress_bar: bool,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train a packed model in place; a training that was cut off goes on from its last epoch.

    Args:
        student: The packed model, in float32.
        teacher: The model that it was quantized from, in float32.
        train: Questions to distil at; the last `held_out_images` are held out.
        dev: Questions to score confidences at, or None.
        encoder: Encodes questions for both.
        recipe: How to train.
        norm_types: The types that norms are stored in, by the names of their tensors.
        checkpoints: Where the state of the training is kept.
        progress_bar: Show a progress bar, not only a line an epoch.

    Returns:
        What was trained, by the names of a checkpoint, in the types that it is stored in; and a row of metrics before
        the training (step 0), after each epoch, and after rounding (`rounded`).
    """
    # Short sequences, as in pretraining.
    student.set_attn_implementation("eager")
    split = len(train.groups) - recipe.held_out_images
    module = Recovery(
        student,
        teacher.eval(),
        train=Questions(train.table, train.groups[:split]),
        held_out=Questions(train.table, train.groups[split:]),
        dev=dev if recipe.reliability_weight > 0 else None,
        encoder=encoder,
        recipe=recipe,
    )
    before, curve = module.evaluate(), Curve()
    _, norms = open_for_training(student, encoder)
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
    module.eval()
    trained = settle_scales(student)
    for name in norms:
        parameter = student.get_parameter(name)
        trained[name] = parameter.detach().to(norm_types.get(name, parameter.dtype))
        with torch.no_grad():
            parameter.copy_(trained[name])
    after = module.evaluate()
    student.set_attn_implementation("sdpa")
    return trained, [{"step": 0, **before}, *curve.rows, {"step": recipe.steps, "rounded": 1.0, **after}]
