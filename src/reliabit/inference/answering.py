"""Answering: greedy decoding as a LightningModule, with probabilities and pooled states of each answer.

The states come from the pass that answers; nothing is run twice. The three vectors are those of arXiv 2602.13289: image
states and question states, each pooled by their maximum, and the state that the first answer token is read from.
Kept answers are known by the code that this module reaches.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from reliabit.errors import ReliabitError
from reliabit.inference._prefix_sharing import PackedPrompts, pack
from reliabit.inference.answer_store import Answers
from reliabit.inference.chunks import Chunk, InTableOrder, in_order, restored
from reliabit.inference.decoding import decode, end_of_answers, score_tokens
from reliabit.inference.encoded_store import EncodedStore, encode
from reliabit.inference.features import FeatureWriter, StateSink
from reliabit.inference.prediction_loop import Predicting, batches_of, predict
from reliabit.models.encoding import Batch
from reliabit.models.families import Adapter
from reliabit.models.loading import Checkpoint
from reliabit.quant.layers import dequantized_once

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        mean_entropy: The entropy of a token's distribution, in nats, on average over the generated tokens.
        tokens: The generated tokens, the end token included.
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
    mean_entropy: float
    tokens: list[int]


class Answering(Predicting):
    """Answers the questions of a batch greedily, whatever sampling settings the checkpoint ships.

    Each image is seen and read once a batch, however many questions are about it.

    Args:
        checkpoint: The model and its encoder.
        max_new_tokens: Where an answer is cut off.
        features: Takes the pooled states of every question, in order.
    """

    def __init__(self, checkpoint: Checkpoint, *, max_new_tokens: int, features: StateSink | None = None) -> None:
        super().__init__(checkpoint)
        self.max_new_tokens = max_new_tokens
        self.features = features

    def step(self, batch: Batch, batch_index: int) -> list[dict[str, Any]]:
        """Answer the questions of a batch; the fields of `Answer`, one mapping a question."""
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
        answers = [
            Answer(
                question_id=batch.question_ids[i],
                answer=text,
                n_tokens=int(lengths[i]),
                truncated=not bool(ended[i]),
                tokens=tokens[i, : int(lengths[i])].tolist(),
                **{name: float(values[i]) for name, values in vars(scores).items()},
            )
            for i, text in enumerate(self.texts_of(tokens, lengths))
        ]
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


def answer_chunk(
    checkpoint: Checkpoint,
    encoded: Callable[[], EncodedStore],
    chunk: Chunk,
    writer: FeatureWriter | None,
    *,
    batch_size: int,
    max_new_tokens: int,
    accelerator: str,
    progress: bool = False,
) -> Answers:
    """Answer a chunk of questions, encoded before or now; see `AnswerStore.ask`."""
    ordered, order = in_order(chunk)
    found = encoded().encode(
        ordered, partial(encode, checkpoint, ordered, batch_size=batch_size, accelerator=accelerator)
    )
    batches = (
        batches_of(ordered.questions, checkpoint.encoder, batch_size=batch_size)
        if found is None
        else DataLoader(cast("Any", found.batches), batch_size=None)
    )
    start = time.perf_counter()
    answers = answer_batches(
        batches,
        checkpoint,
        max_new_tokens=max_new_tokens,
        accelerator=accelerator,
        progress=progress,
        features=None if writer is None else InTableOrder(writer, order),
    )
    seconds = time.perf_counter() - start + (0.0 if found is None else found.seconds)
    return Answers(restored(answers, order), seconds=seconds)


def answer_batches(
    batches: "DataLoader[Any]",
    checkpoint: Checkpoint,
    *,
    max_new_tokens: int,
    accelerator: str,
    progress: bool,
    features: StateSink | None = None,
) -> list[dict[str, Any]]:
    """Answer questions that are encoded already, or as they are loaded (`batches_of`).

    Args:
        batches: The questions; answers and probabilities do not depend on how many are a batch, but for rounding.
        checkpoint: The model and its encoder.
        max_new_tokens: Where an answer is cut off.
        accelerator: Lightning's name of the device.
        progress: Show a progress bar with the time left.
        features: Takes the pooled states of every question, in order.

    Returns:
        The fields of `Answer`, one mapping a question, in order.
    """
    module = Answering(checkpoint, max_new_tokens=max_new_tokens, features=features)
    with dequantized_once(checkpoint.model, dtype=checkpoint.model.dtype):
        answered = predict(module, batches, accelerator=accelerator, progress=progress)
    return [answer for batch in answered for answer in batch]


@dataclass(frozen=True)
class PooledStates:
    """One vector of each kind a question, `[questions, width]`.

    Attributes:
        image: The largest value of each channel over the image tokens; zeros where there are none.
        question: The same over the tokens of the question itself.
        first: The state at the last token of the prompt, from which the first answer token is predicted.
    """

    image: torch.Tensor
    question: torch.Tensor
    first: torch.Tensor


def pool_states(states: torch.Tensor, packed: PackedPrompts) -> PooledStates:
    """Pool the states of packed prompts, for each question in the order of its batch.

    Attention is causal: an image's states do not depend on what is asked, and serve every question of a row.

    Args:
        states: `[rows, tokens, width]`.
        packed: The prompts that they are of.
    """
    places = list(zip(packed.starts, packed.ends, strict=True))
    questions = [_largest(states[:, start:end], packed.question_tokens[:, start:end]) for start, end in places]
    return PooledStates(
        image=_largest(states, packed.image_tokens)[packed.row_of],
        question=packed.of_questions(torch.stack(questions, dim=1)),
        first=packed.of_questions(states[:, [end - 1 for _, end in places]]),
    )


def _largest(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    pooled = states.masked_fill(~where.unsqueeze(-1), float("-inf")).amax(1)
    return torch.where(where.any(1, keepdim=True), pooled, torch.zeros_like(pooled))


def state_module(model: "PreTrainedModel", adapter: Adapter, *, layer: int | None) -> nn.Module:
    """The module whose output the states are.

    Args:
        model: The model.
        adapter: Its family.
        layer: A decoder layer, negative numbers counting from the last; `None` for the norm after all of them, whose
            output the head reads.

    Raises:
        ReliabitError: There is no such layer.
    """
    language: nn.Module = model
    if layer is None:
        return language.get_submodule(adapter.final_norm)
    layers = list(language.get_submodule(adapter.decoder_layers).children())
    if not -len(layers) <= layer < len(layers):
        raise ReliabitError(
            f"confidence.features.layer={layer} does not exist; the decoder has layers 0 to {len(layers) - 1}"
        )
    return layers[layer]


@contextmanager
def prompt_states(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Keep the first output of a module: over the whole prompt; later ones are of single generated tokens.

    Yields:
        A list that holds the output, `[rows, tokens, width]`, once the model has run.
    """
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        if not kept:
            kept.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()
