"""P(True): the model is shown the question and its own answer, and asked whether the answer is right.

One more forward pass a question (Kadavath et al. 2022, "Language Models (Mostly) Know What They Know"). The confidence
is p(right) / (p(right) + p(wrong)) at the first token in which the two words for it differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from reliabit.errors import ReliabitError
from reliabit.inference.predicting import Predicting, predict
from reliabit.inference.settings import SelfEvaluationPrompt
from reliabit.models.encoding import Batch, Encoder
from reliabit.models.loading import Checkpoint

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Verdict:
    """Where the two words part: the tokens they share, and the first one in which they differ."""

    shared: list[int]
    right: int
    wrong: int


def find_verdict(encoder: Encoder, prompt: SelfEvaluationPrompt) -> Verdict:
    """Find the tokens that decide between the two words.

    Raises:
        ReliabitError: One word begins with all of the other.
    """
    prefix = encoder.adapter.answer_prefix
    right, wrong = (
        encoder.processor.tokenizer(prefix + word, add_special_tokens=False)["input_ids"]
        for word in (prompt.right, prompt.wrong)
    )
    for position, (one, other) in enumerate(zip(right, wrong, strict=False)):
        if one != other:
            return Verdict(shared=right[:position], right=one, wrong=other)
    raise ReliabitError(
        f"the words {prompt.right!r} and {prompt.wrong!r} of confidence.p_true cannot be told apart; choose others"
    )


def plain_encoder(encoder: Encoder) -> Encoder:
    """What encodes the second prompt: it stands whole where a question would, the model's own template left out.

    So the chat template surrounds it as it should.
    """
    return Encoder(adapter=encoder.adapter, processor=encoder.processor)


def second_question(template: str, *, question: str, answer: str, encoder: Encoder) -> str:
    """What the second prompt asks; the words of special tokens are no part of an answer, as when it was decoded."""
    return template.format(question=question, answer=encoder.reserved.sub("", answer))


class SelfEvaluation(Predicting):
    """Reads from one forward pass how likely the model finds its answer right."""

    def __init__(self, checkpoint: Checkpoint, *, verdict: Verdict) -> None:
        """Wrap a model.

        Args:
            checkpoint: The model and its encoder.
            verdict: The tokens to compare.
        """
        super().__init__(checkpoint)
        self.verdict = verdict

    def step(self, batch: Batch, batch_index: int) -> list[float]:
        """The confidence of each question of a batch."""
        shared = self.encoder.adapter.shared_images(self.model, batch.images, batch.image_of)
        text = begun(batch.text, self.verdict.shared)
        logits = self.model(**text, **shared, use_cache=False, logits_to_keep=1).logits[:, -1].double()
        log_odds = logits[:, self.verdict.right] - logits[:, self.verdict.wrong]
        # An infinite number would pass for certainty.
        confidence: list[float] = log_odds.sigmoid().where(log_odds.isfinite(), float("nan")).tolist()
        return confidence


def begun(text: dict[str, torch.Tensor], tokens: Sequence[int]) -> dict[str, torch.Tensor]:
    """Prompts after which some answer tokens are already written.

    >>> text = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.tensor([[0, 1]])}
    >>> {name: tensor.tolist() for name, tensor in begun(text, [7]).items()}
    {'input_ids': [[5, 6, 7]], 'attention_mask': [[0, 1, 1]]}
    """
    fill = {"attention_mask": [1] * len(tokens), "input_ids": list(tokens), "mm_token_type_ids": [0] * len(tokens)}
    return {
        name: torch.cat([tensor, tensor.new_tensor(fill[name]).expand(len(tensor), -1)], dim=1)
        for name, tensor in text.items()
    }


def self_evaluations(
    table: "Dataset",
    answers: Sequence[str],
    checkpoint: Checkpoint,
    *,
    prompt: SelfEvaluationPrompt,
    batch_size: int,
    accelerator: str,
    progress: bool,
) -> list[float]:
    """Ask a model about its own answers.

    Args:
        table: The questions.
        answers: The model's answer to each.
        checkpoint: The model and its encoder.
        prompt: The second prompt.
        batch_size: Questions a batch.
        accelerator: Lightning's name of the device.
        progress: Show a progress bar with the time left.

    Returns:
        P(True) of each answer, in [0, 1].

    Raises:
        ReliabitError: The words of the prompt cannot be told apart.
    """
    encoder = plain_encoder(checkpoint.encoder)
    asked = [
        second_question(prompt.template, question=question, answer=answer, encoder=encoder)
        for question, answer in zip(table["question"], answers, strict=True)
    ]

    def collate(rows: Sequence[dict[str, Any]]) -> Batch:
        return encoder([{**row, "question": asked[row["row"]]} for row in rows])

    module = SelfEvaluation(checkpoint, verdict=find_verdict(encoder, prompt))
    numbered = table.add_column("row", list(range(len(asked))))
    loader: DataLoader[Any] = DataLoader(numbered, batch_size=batch_size, shuffle=False, collate_fn=collate)
    batches = predict(module, loader, accelerator=accelerator, progress=progress)
    return [confidence for batch in batches for confidence in batch]
