"""How much the loss minds an error in each modality: mean gradient magnitudes at the outputs of attention and MLP.

MBQ, section 3: to first order an error `d` of a token's output moves the loss by `|g| |d|`; with `|g|` replaced by its
mean over a modality's tokens, one ratio a layer remains, that of image tokens to answer tokens.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.mbq.calibration_set import ANSWER, IGNORED, VISION, CalibrationBatch, Tokens
from reliabit.quant.mbq.decoder import Decoder, run_layer

PLACES = ("attention", "mlp")
OUTPUTS = ("self_attn.o_proj", "mlp.down_proj")
"""The modules at whose outputs gradients are taken, in the order of `PLACES`."""


@dataclass(frozen=True)
class RatioInterval:
    """A sensitivity ratio with its percentile bootstrap interval over sequences."""

    estimate: float
    low: float
    high: float


def _loss_gradient(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the answers' cross-entropy at the decoder's last outputs, `[sequences, tokens, width]`.

    Every sequence counts the same, however long its answer.
    """
    gradient = torch.zeros_like(hidden)
    answering = targets != IGNORED
    states = hidden[answering].detach().requires_grad_()
    with torch.enable_grad():
        losses = nn.functional.cross_entropy(head(states).float(), targets[answering], reduction="none")
        shares = (1 / answering.sum(dim=1, keepdim=True).expand_as(answering)[answering]).to(losses)
        (found,) = torch.autograd.grad((losses * shares).sum(), states)
    gradient[answering] = found
    return gradient


def token_gradients(
    decoder: Decoder,
    batches: Sequence[CalibrationBatch],
    *,
    keywords: Sequence[dict[str, Any]],
    outputs: Sequence[Tensor],
    spool: MutableMapping[tuple[int, int], Tensor],
    tokens: Tokens,
) -> Tensor:
    """Walk the decoder backwards; weights get no gradients, and no more than one layer is differentiated at a time.

    Args:
        decoder: The decoder.
        batches: The calibration set.
        keywords: What the layers were called with besides their inputs, by batch.
        outputs: The last layer's outputs, by batch.
        spool: Every layer's inputs, by layer and batch; taken out as they are used.
        tokens: The calibration set's tokens.

    Returns:
        Mean magnitude over channels of the gradient at each output of `OUTPUTS` for each token, float32
        `[layers, 2, tokens]`.

    Raises:
        ReliabitError: A gradient that is no number; the layer is named.
    """
    with decoder.logits() as head:
        gradients = [
            _loss_gradient(head, hidden, batch.targets) for hidden, batch in zip(outputs, batches, strict=True)
        ]
    magnitudes = torch.zeros((decoder.depth, len(PLACES), len(tokens.kinds)))
    for index in reversed(range(decoder.depth)):
        with decoder.layer(index) as layer:
            for number, batch in enumerate(batches):
                hidden = spool.pop((index, number)).to(gradients[number].device)
                gradients[number], found = _differentiate(layer, hidden, keywords[number], gradients[number])
                part = magnitudes[index, :, tokens.of_batch(number)]
                part.copy_(torch.stack([place[batch.attended] for place in found]))
                check_finite(part, f"gradients at {decoder.path}.{index}", dtype=hidden.dtype, batch=number)
    return magnitudes


def check_finite(numbers: Tensor, what: str, *, dtype: torch.dtype, batch: int) -> None:
    """Refuse what overflowed while a calibration set was measured."""
    if not torch.isfinite(numbers).all():
        computed = str(dtype).removeprefix("torch.")
        raise ReliabitError(
            f"the {what} are not finite in calibration batch {batch}, computed in {computed}; set model.dtype=bfloat16 "
            "or model.dtype=float32, or see whether the checkpoint is whole"
        )


def _differentiate(
    layer: nn.Module, hidden: Tensor, keywords: dict[str, Any], gradient: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Carry a gradient to a layer's inputs, with its mean magnitudes at `OUTPUTS`, `[sequences, tokens]` each."""
    kept: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(_: nn.Module, _positional: tuple[Any, ...], output: Tensor) -> None:
            kept[path] = output

        return hook

    hooks = [layer.get_submodule(path).register_forward_hook(keep(path)) for path in OUTPUTS]
    try:
        with torch.enable_grad():
            inputs = hidden.detach().requires_grad_()
            output = run_layer(layer, inputs, keywords)
            first, *found = torch.autograd.grad(output, [inputs, *(kept[path] for path in OUTPUTS)], gradient)
    finally:
        for hook in hooks:
            hook.remove()
    return first, [place.float().abs().mean(dim=-1) for place in found]


def ratios(gradients: Tensor, tokens: Tokens) -> Tensor:
    """The sensitivity of image tokens relative to answer tokens, the quotient of their means over sequences.

    In the last layers no image token can reach an answer any more, so their own ratios fall to 0; all are floored at
    the median over layers. From `[layers, 2, tokens]` to `[layers, 2]`.
    """
    means = sequence_means(gradients, tokens)
    plain = means[..., VISION, :].mean(-1) / _answer_means(means)
    return torch.maximum(plain, plain.quantile(0.5, dim=0, keepdim=True))


def ratio_intervals(
    gradients: Tensor, tokens: Tokens, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> list[list[RatioInterval]]:
    """Bootstrap intervals of each layer's ratios before they are floored, drawing whole sequences."""
    means = sequence_means(gradients, tokens)
    estimates = means[..., VISION, :].mean(-1) / _answer_means(means)
    sequences = means.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(sequences, (resamples, sequences), generator=generator)
    drawn = means[..., draws].mean(-1)
    spread = drawn[..., VISION, :] / drawn[..., ANSWER, :].clamp_min(torch.finfo(drawn.dtype).tiny)
    low, high = torch.quantile(spread, torch.tensor([(1 - level) / 2, (1 + level) / 2]), dim=-1)
    return [
        [
            RatioInterval(float(estimates[layer, place]), float(low[layer, place]), float(high[layer, place]))
            for place in (0, 1)
        ]
        for layer in range(len(estimates))
    ]


def sequence_means(gradients: Tensor, tokens: Tokens) -> Tensor:
    """Mean gradient magnitudes of answer and image tokens in each sequence, `[layers, 2, 2, sequences]`."""
    count = int(tokens.sequences.max()) + 1
    means = []
    for kind in (ANSWER, VISION):
        chosen = tokens.kinds == kind
        where = tokens.sequences[chosen]
        sums = torch.zeros((*gradients.shape[:2], count)).index_add_(2, where, gradients[..., chosen])
        means.append(sums / torch.bincount(where, minlength=count).clamp_min(1))
    return torch.stack(means, dim=2)


def _answer_means(means: Tensor) -> Tensor:
    answer = means[..., ANSWER, :].mean(-1)
    if not (answer > 0).all():
        raise ReliabitError("the answers of the calibration set have no gradient at some layer; check the model")
    return answer
