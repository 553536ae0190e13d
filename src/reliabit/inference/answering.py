"""Answering: greedy decoding as a LightningModule, with what the model's probabilities say of each answer."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from reliabit.inference.features import TakesStates
from reliabit.inference.greedy import decode
from reliabit.inference.packing import PackedPrompts, pack
from reliabit.inference.predicting import Predicting, predict
from reliabit.inference.states import pool_states, prompt_states, state_module
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Answer:
    """One answer and the probabilities it was decoded with, from unprocessed logits.

    Attributes:
        question_id: The question.
        answer: The text, special tokens left out.
        log_prob: The log-probability of the whole answer, its end token included.
        n_tokens: Generated tokens, the end token included.
        truncated: Whether the answer was cut off before it ended.
        first_token_prob: The probability of the first token.
        min_token_prob: The smallest probability of a token.
        first_token_entropy: The entropy of the first token's distribution, in nats.
        first_token_margin: By how much the first token's probability exceeds the runner-up's.
    """

    question_id: str
    answer: str
    log_prob: float
    n_tokens: int
    truncated: bool
    first_token_prob: float
    min_token_prob: float
    first_token_entropy: float
    first_token_margin: float


@dataclass(frozen=True)
class TokenScores:
    """What the logits say of generated tokens; all `[questions]`, in float64."""

    log_prob: torch.Tensor
    min_token_prob: torch.Tensor
    first_token_prob: torch.Tensor
    first_token_entropy: torch.Tensor
    first_token_margin: torch.Tensor


def score_tokens(logits: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor) -> TokenScores:
    """Score generated tokens by the model's own distribution.

    Args:
        logits: Unprocessed logits, `[questions, steps, vocabulary]`.
        tokens: The tokens chosen, `[questions, steps]`.
        lengths: How many of them belong to the answer, its end included, `[questions]`, at least 1.

    Returns:
        The scores. MaxProb (arXiv 2602.13289) is `exp(log_prob)`: the product over all generated tokens.

    >>> logits = torch.log(torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]))
    >>> scores = score_tokens(logits, torch.tensor([[0, 1]]), torch.tensor([2]))
    >>> round(scores.log_prob.exp().item(), 6)
    0.72
    """
    # In float32 the log-probability of a sure token rounds to zero, and sure answers would tie by the hundred.
    log_probs = torch.log_softmax(logits.double(), dim=-1)
    chosen = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    beyond = torch.arange(tokens.shape[1], device=tokens.device) >= lengths.unsqueeze(1)
    first = log_probs[:, 0]
    two_best = first.exp().topk(2, dim=-1).values
    return TokenScores(
        log_prob=chosen.masked_fill(beyond, 0).sum(1),
        min_token_prob=chosen.masked_fill(beyond, 0).min(1).values.exp(),
        first_token_prob=chosen[:, 0].exp(),
        first_token_entropy=torch.special.entr(first.exp()).sum(-1),
        first_token_margin=two_best[:, 0] - two_best[:, 1],
    )


def end_of_answers(tokens: torch.Tensor, *, ends: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Find where answers end.

    Args:
        tokens: Generated tokens, `[questions, steps]`.
        ends: The tokens that end an answer.

    Returns:
        How many tokens belong to each answer, its end included, and whether it ended at all; `[questions]`.

    >>> end_of_answers(torch.tensor([[5, 9, 0], [5, 6, 7]]), ends=[9])
    (tensor([2, 3]), tensor([ True, False]))
    """
    ended = torch.isin(tokens, torch.tensor(ends, device=tokens.device))
    return torch.where(ended.any(1), ended.int().argmax(1) + 1, tokens.shape[1]), ended.any(1)


class Answering(Predicting):
    """Answers the questions of a batch greedily, whatever sampling settings the checkpoint ships.

    Each image is seen and read once a batch, however many questions are about it.
    """

    def __init__(self, checkpoint: Checkpoint, *, max_new_tokens: int, features: TakesStates | None = None) -> None:
        """Wrap a model.

        Args:
            checkpoint: The model and its encoder.
            max_new_tokens: Where an answer is cut off.
            features: Takes the pooled states of every question, in order.
        """
        super().__init__(checkpoint)
        self.max_new_tokens = max_new_tokens
        self.features = features

    def step(self, batch: Batch, batch_index: int) -> list[dict[str, Any]]:
        """Answer the questions of a batch.

        Args:
            batch: Encoded questions.
            batch_index: Unused.

        Returns:
            The fields of `Answer`, one mapping a question.
        """
        adapter = self.encoder.adapter
        seen = adapter.see_images(self.model, batch.images) if batch.seen is None else batch.seen
        packed = pack(batch, model=self.model, adapter=adapter)
        images = adapter.image_inputs(seen, batch.images, packed.image_of)
        with self._states() as states:
            decoded = decode(self.model, packed, images=images, ends=self.ends, max_new_tokens=self.max_new_tokens)
        self._keep(states, packed)
        tokens = decoded.tokens
        lengths, ended = end_of_answers(tokens, ends=self.ends)
        scores = score_tokens(decoded.logits, tokens, lengths)
        texts = self.encoder.processor.tokenizer.batch_decode(
            [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)], skip_special_tokens=True
        )
        answers = [
            Answer(
                question_id=batch.question_ids[i],
                answer=texts[i].strip(),
                n_tokens=int(lengths[i]),
                truncated=not bool(ended[i]),
                **{name: float(values[i]) for name, values in vars(scores).items()},
            )
            for i in range(len(texts))
        ]
        # Lightning walks into what a step returns, and refuses frozen dataclasses.
        return [asdict(answer) for answer in answers]

    def _states(self) -> Any:
        if self.features is None:
            return nullcontext([])
        return prompt_states(state_module(self.model, self.encoder.adapter, layer=self.features.settings.layer))

    def _keep(self, states: list[torch.Tensor], packed: PackedPrompts) -> None:
        if self.features is None:
            return
        # The layer that they are taken from may lie on another device than the prompts.
        pooled = pool_states(states[0].to(packed.input_ids.device), packed)
        self.features.append({name: block.float().cpu().numpy() for name, block in vars(pooled).items()})


def answer_table(
    table: "Dataset",
    checkpoint: Checkpoint,
    *,
    batch_size: int,
    max_new_tokens: int,
    accelerator: str,
    progress: bool,
    features: TakesStates | None = None,
) -> list[dict[str, Any]]:
    """Answer every question of a VQA table.

    Args:
        table: The questions.
        checkpoint: The model and its encoder.
        batch_size: Questions a batch; answers and probabilities do not depend on it, but for rounding.
        max_new_tokens: Where an answer is cut off.
        accelerator: Lightning's name of the device.
        progress: Show a progress bar with the time left.
        features: Takes the pooled states of every question, in order.

    Returns:
        The fields of `Answer`, one mapping a question, in table order.
    """
    loader: DataLoader[Any] = DataLoader(table, batch_size=batch_size, shuffle=False, collate_fn=checkpoint.encoder)
    return answer_batches(
        loader,
        checkpoint,
        max_new_tokens=max_new_tokens,
        accelerator=accelerator,
        progress=progress,
        features=features,
    )


def answer_batches(
    batches: "DataLoader[Any]",
    checkpoint: Checkpoint,
    *,
    max_new_tokens: int,
    accelerator: str,
    progress: bool,
    features: TakesStates | None = None,
) -> list[dict[str, Any]]:
    """Answer questions that are encoded already, or as they are loaded; see `answer_table`."""
    module = Answering(checkpoint, max_new_tokens=max_new_tokens, features=features)
    answered = predict(module, batches, accelerator=accelerator, progress=progress)
    return [answer for batch in answered for answer in batch]
