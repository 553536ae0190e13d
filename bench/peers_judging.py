"""What a quantized decoder is worth, by one piece of code for all libraries: divergence, likelihood, answers."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peers_formats import Grid
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reliabit.inference.answering import answer_batches
from reliabit.metrics.functional import aurc, coverage_at_risk, vqa_accuracy
from reliabit.models.batches import calibration_batches
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint
from reliabit.quant import CalibrationBatch
from reliabit.quant.mbq.decoder import Head, LayerInputs, ResidentDecoder, output_embeddings, run_layer

BATCH = 50
DECODER, WHOLE = "model.", "model.text_model."
"""What names of the decoder alone and of the whole model begin with."""


def divergences(exact: Tensor, logits: Tensor) -> Tensor:
    """The KL divergence of what logits say from what exact ones say, `[positions]`, in nats.

    >>> divergences(torch.zeros(1, 2), torch.log(torch.tensor([[0.75, 0.25]])))
    tensor([0.1438])
    """
    expected, said = exact.double().log_softmax(-1), logits.double().log_softmax(-1)
    return nn.functional.kl_div(said, expected, log_target=True, reduction="none").sum(-1).float()


def likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of tokens, `[positions]`, in nats.

    >>> likelihood(torch.zeros(1, 4), torch.tensor([2]))
    tensor([1.3863])
    """
    return nn.functional.cross_entropy(logits.double(), targets, reduction="none").float()


class Judge:
    """The unquantized model, which takes the decoder of one library after another, and what it said itself."""

    def __init__(self, checkpoint: Checkpoint, judged: Sequence[dict[str, Any]], asked: Any) -> None:
        """Encode the questions, see their images and keep what the exact model says."""
        self.checkpoint, self.model = checkpoint, cast("Any", checkpoint.model)
        self.path = checkpoint.encoder.adapter.decoder_layers
        self.answers = list(asked["answers"])
        self.held_out = calibration_batches(judged, encoder=checkpoint.encoder, batch_size=BATCH)
        self.batches = self._seen(asked)
        self.prepare()

    def prepare(self) -> None:
        """Keep what the decoder is given, its weights, and what it says as it is."""
        decoder = ResidentDecoder(self.model, self.path)
        self.inputs = [decoder.inputs(batch) for batch in self.held_out]
        text = self.model.model.text_model
        self.exact = {name: tensor.clone() for name, tensor in text.state_dict().items() if "embed_tokens" not in name}
        self.exact_logits = self.logits()

    @torch.no_grad()
    def _seen(self, asked: Any) -> list[Batch]:
        """The questions of test, encoded, their images seen: quantizing the decoder changes neither."""
        encoder, batches = self.checkpoint.encoder, []
        for start in range(0, len(asked), BATCH):
            batch = encoder(list(asked.select(range(start, min(start + BATCH, len(asked))))))
            batch.seen = list(encoder.adapter.see_images(self.model, batch.images))
            batches.append(batch)
        return batches

    @torch.no_grad()
    def logits(self) -> list[Tensor]:
        """The logits at the answer positions of the judged questions, by batch."""
        head = Head(self.model.model.text_model.norm, output_embeddings(self.model))
        return [self._batch_logits(head, *pair) for pair in zip(self.inputs, self.held_out, strict=True)]

    def _batch_logits(self, head: Head, inputs: LayerInputs, batch: CalibrationBatch) -> Tensor:
        hidden = inputs.hidden
        for layer in self.model.get_submodule(self.path).children():
            hidden = run_layer(layer, hidden, inputs.keywords)
        return head(hidden[batch.answer]).float()

    @torch.no_grad()
    def put(self, grids: Mapping[str, Grid], rest: Mapping[str, Tensor]) -> None:
        """Take a decoder: its weights, and the norms that came with them.

        Raises:
            ValueError: A linear layer of the decoder has no weight, or one that no layer has.
        """
        text = self.model.model.text_model
        text.load_state_dict(self.exact, strict=False)
        linears = {name for name, one in text.named_modules() if isinstance(one, nn.Linear)}
        found = {name.removeprefix(DECODER): grid for name, grid in grids.items()}
        if set(found) != linears:
            raise ValueError(f"quantized are {len(found)} layers, and {sorted(set(found) ^ linears)[:3]} differ")
        state = {f"{name}.weight": grid.weight for name, grid in found.items()}
        plain = {name.removeprefix(DECODER): tensor.float() for name, tensor in rest.items()}
        state |= {name: tensor for name, tensor in plain.items() if name in self.exact}
        text.load_state_dict(state, strict=False)

    def measure(self) -> dict[str, float]:
        """How the model as it is now differs from the exact one, and how well it answers."""
        return {**self.fidelity(), **self.reliability()}

    def fidelity(self) -> dict[str, float]:
        """KL from the exact model with its standard error over positions, and the NLL of the reference answers."""
        logits = torch.cat(self.logits())
        targets = torch.cat([batch.targets[batch.answer] for batch in self.held_out])
        found = divergences(torch.cat(self.exact_logits), logits)
        return {
            "kl": float(found.mean()),
            "kl_error": float(found.std() / len(found) ** 0.5),
            "nll": float(likelihood(logits, targets).mean()),
        }

    def reliability(self) -> dict[str, float]:
        """Accuracy, AURC and coverage at 1 % risk of greedy answers, the answer's probability as confidence."""
        batches: Any = DataLoader(cast("Any", self.batches), batch_size=None)
        found = answer_batches(batches, self.checkpoint, max_new_tokens=8, accelerator="cpu", progress=False)
        rows = zip(found, self.answers, strict=True)
        accuracy = torch.tensor([vqa_accuracy(row["answer"], expected) for row, expected in rows], dtype=torch.float64)
        confidence = torch.tensor([row["log_prob"] for row in found], dtype=torch.float64).exp()
        return {
            "accuracy": float(accuracy.mean()),
            "aurc": float(aurc(confidence, accuracy)),
            "coverage_at_1pct_risk": float(coverage_at_risk(confidence, accuracy, 0.01)[0]),
        }
