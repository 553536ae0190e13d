"""Passes of the model beyond the answering one, which some confidence estimators take: sampled answers and P(True).

Sampled answers are several draws of an answer to each question, for confidences that look at how much they agree.
For P(True) the model is shown the question and its own answer, and asked whether the answer is right: one more forward
pass a question (Kadavath et al. 2022, "Language Models (Mostly) Know What They Know"). The confidence is
p(right) / (p(right) + p(wrong)) at the first token in which the two words for it differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from reliabit.errors import NotFiniteError, ReliabitError
from reliabit.inference.decoding import end_of_answers, score_tokens
from reliabit.inference.prediction_loop import Predicting, batches_of, predict
from reliabit.inference.settings import SamplingSettings, SelfEvaluationPrompt
from reliabit.models.encoding import Batch, Encoder
from reliabit.models.loading import Checkpoint

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class SampledAnswers:
    """The answers drawn for one question, and their log-probabilities under the model at temperature 1."""

    answers: list[str]
    log_probs: list[float]


class Sampling(Predicting):
    """Draws answers; the vision tower runs once a batch, the language model once a draw."""

    def __init__(self, checkpoint: Checkpoint, *, max_new_tokens: int, settings: SamplingSettings) -> None:
        from transformers import GenerationConfig

        super().__init__(checkpoint)
        self.settings = settings
        tokenizer = checkpoint.encoder.processor.tokenizer
        self.generation = GenerationConfig(
            do_sample=True,
            temperature=settings.temperature,
            top_k=0,
            top_p=1.0,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.ends,
            pad_token_id=tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        # What a call leaves open is taken from here, such as a repetition penalty that the checkpoint ships.
        self.model.generation_config = self.generation

    def step(self, batch: Batch, batch_index: int) -> list[dict[str, Any]]:
        """Draw the answers of a batch; the fields of `SampledAnswers`, one mapping a question."""
        shared = self.encoder.adapter.shared_images(self.model, batch.images, batch.image_of)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.settings.seed * 1_000_003 + batch_index)
            drawn = [self._draw(batch, shared) for _ in range(self.settings.samples)]
        return [
            {"answers": [texts[i] for texts, _ in drawn], "log_probs": [scores[i] for _, scores in drawn]}
            for i in range(len(batch.question_ids))
        ]

    def _draw(self, batch: Batch, shared: dict[str, Any]) -> tuple[list[str], list[float]]:
        from transformers import LogitsProcessorList

        output: Any = self.model.generate(
            **batch.text,
            **shared,
            generation_config=self.generation,
            logits_processor=LogitsProcessorList([_refuse_not_finite]),
        )
        tokens = output.sequences[:, batch.text["input_ids"].shape[1] :]
        lengths, _ = end_of_answers(tokens, ends=self.ends)
        scores = score_tokens(torch.stack(output.logits, dim=1), tokens, lengths)
        return self.texts_of(tokens, lengths), scores.log_prob.tolist()


def _refuse_not_finite(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Stop before torch is asked to draw from what is no distribution."""
    if not torch.isfinite(scores).all():
        raise NotFiniteError("a token cannot be drawn, since the model's numbers are not finite")
    return scores


def sample_answers(
    table: "Dataset",
    checkpoint: Checkpoint,
    *,
    settings: SamplingSettings,
    batch_size: int,
    max_new_tokens: int,
    accelerator: str,
    progress: bool,
) -> list[SampledAnswers]:
    """Draw several answers to every question of a VQA table, in table order.

    Args:
        table: The questions.
        checkpoint: The model and its encoder.
        settings: How to draw.
        batch_size: Questions a batch.
        max_new_tokens: Where an answer is cut off.
        accelerator: Lightning's name of the device.
        progress: Show a progress bar with the time left.
    """
    module = Sampling(checkpoint, max_new_tokens=max_new_tokens, settings=settings)
    loader = batches_of(table, checkpoint.encoder, batch_size=batch_size)
    batches = predict(module, loader, accelerator=accelerator, progress=progress, title="sampling answers")
    return [SampledAnswers(**fields) for batch in batches for fields in batch]


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
    loader = batches_of(numbered, collate, batch_size=batch_size)
    batches = predict(module, loader, accelerator=accelerator, progress=progress, title="asking about answers")
    return [confidence for batch in batches for confidence in batch]
