"""Sampled answers: several draws of an answer to each question, for confidences that look at how much they agree."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from reliabit.errors import NotFiniteError
from reliabit.inference.answering import end_of_answers, score_tokens
from reliabit.inference.predicting import Predicting, predict
from reliabit.inference.settings import SamplingSettings
from reliabit.models.encoding import Batch
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
        """Wrap a model.

        Args:
            checkpoint: The model and its encoder.
            max_new_tokens: Where an answer is cut off.
            settings: How to draw.
        """
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
        texts = self.encoder.processor.tokenizer.batch_decode(
            [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)], skip_special_tokens=True
        )
        return [text.strip() for text in texts], scores.log_prob.tolist()


def _refuse_not_finite(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
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
    loader: DataLoader[Any] = DataLoader(table, batch_size=batch_size, shuffle=False, collate_fn=checkpoint.encoder)
    batches = predict(module, loader, accelerator=accelerator, progress=progress)
    return [SampledAnswers(**fields) for batch in batches for fields in batch]
