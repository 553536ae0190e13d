"""What errors of outputs count in a scale search: as much as they do to the answer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reliabit.quant.mbq.calibration_set import ANSWER, VISION
from reliabit.quant.settings import ScalingConfig


def token_errors(difference: Tensor, loss: str) -> Tensor:
    """The mean magnitude (`mae`) or square (`mse`) of each token's output differences, `[..., channels]` to `[...]`.

    Example:
        >>> token_errors(torch.tensor([[1.0, -3.0]]), "mae"), token_errors(torch.tensor([[1.0, -3.0]]), "mse")
        (tensor([2.]), tensor([5.]))
    """
    values = difference.float()
    return values.abs().mean(dim=-1) if loss == "mae" else values.square().mean(dim=-1)


def modality_weights(counts: Tensor, *, ratio: float, settings: ScalingConfig) -> Tensor:
    """What the mean error of each modality counts, float32 `[modalities]`, from the tokens it has, `[modalities]`.

    With the gradients' ratio `r` of image to answer tokens, image tokens `v` and answer tokens `a`, MBQ's published
    losses are `(sum_a |d| + r sum_v |d|) / (n_a + n_v)` for `mae` and `mean_a d^2 + r mean_v d^2` for `mse`; AWQ's is
    the mean over all tokens.

    Example:
        >>> modality_weights(torch.tensor([1, 3, 4]), ratio=0.5, settings=ScalingConfig(activation="all"))
        tensor([0.2500, 0.3750, 0.0000])
        >>> modality_weights(torch.tensor([1, 3, 4]), ratio=0.5, settings=ScalingConfig(modality_weight="none"))
        tensor([0.1250, 0.3750, 0.5000])
    """
    shares = counts.float()
    if settings.modality_weight != "gradient":
        return shares / shares.sum()
    weights = torch.zeros_like(shares)
    weights[ANSWER], weights[VISION] = 1.0, ratio
    if settings.loss == "mse":
        return weights
    return weights * shares / (shares[ANSWER] + shares[VISION])


def token_weights(
    kinds: Tensor, counts: Tensor, *, ratio: float, settings: ScalingConfig, gradients: Tensor | None = None
) -> Tensor:
    """What the error of each looked-at token counts, such that a draw stands for the whole calibration set.

    Args:
        kinds: The modality of each looked-at token, `[tokens]`.
        counts: Tokens of each modality in the whole calibration set, `[modalities]`.
        ratio: The sensitivity of image tokens relative to answer tokens.
        settings: The search.
        gradients: For `modality_weight="token"`, the gradient magnitude of each looked-at token, relative to the mean
            over the calibration set.

    Returns:
        float32 `[tokens]`; the loss is their dot product with `token_errors`.

    Example:
        >>> settings = ScalingConfig(modality_weight="none")
        >>> token_weights(torch.tensor([0, 1, 1]), torch.tensor([2, 2, 0]), ratio=1.0, settings=settings)
        tensor([0.5000, 0.2500, 0.2500])
    """
    looked_at = torch.bincount(kinds.long(), minlength=len(counts))
    by_modality = modality_weights(counts, ratio=ratio, settings=settings) / looked_at.clamp_min(1)
    weights = by_modality[kinds.long()]
    if settings.modality_weight == "token" and gradients is not None:
        weights = weights * gradients
    return weights


def activation_magnitude(magnitude: Tensor, counts: Tensor, *, ratio: float, settings: ScalingConfig) -> Tensor:
    """The mean magnitude that scales are powers of, `[channels]`, from those by modality, `[modalities, channels]`.

    Example:
        >>> means = torch.tensor([[1.0], [3.0], [8.0]])
        >>> activation_magnitude(means, torch.tensor([1, 1, 2]), ratio=0.5, settings=ScalingConfig(activation="all"))
        tensor([5.])
    """
    shares = counts.float().clone()
    if settings.activation != "all":
        shares = torch.zeros_like(shares)
        shares[ANSWER], shares[VISION] = counts[ANSWER].float(), counts[VISION].float()
    if settings.activation == "balanced":
        shares[ANSWER], shares[VISION] = 1.0, ratio
    return (shares[:, None] * magnitude).sum(dim=0) / shares.sum()


Weights = dict[str, Tensor]


@dataclass(frozen=True)
class GramLoss:
    """Evidence for a group that is one linear layer.

    With `G = X.T @ X / n` the mean square error of output `i` is `(dW G dW.T)_ii`. Its mean magnitude is taken for that
    of a normal variable, `sqrt(2 / pi)` times the root: over tokens, errors are sums of many small ones.

    Attributes:
        weight: The layer's weight, `[out_features, in_features]`.
        grams: By modality, `[modalities, in_features, in_features]`.
        shares: What the mean error of each modality counts, `[modalities]`.
        loss: `mae` or `mse`.
    """

    weight: Tensor
    grams: Tensor
    shares: Tensor
    loss: str

    def pilot(self) -> "GramLoss":
        """All of it: a candidate costs one matrix product."""
        return self

    def judge(self, weights: Weights) -> float:
        """The loss of the layer with another weight.

        Example:
            >>> loss = GramLoss(torch.zeros(1, 2), torch.eye(2)[None], torch.ones(1), "mse")
            >>> loss.judge({"weight": torch.tensor([[3.0, 4.0]])})
            25.0
        """
        (weight,) = weights.values()
        difference = weight.float() - self.weight.float()
        total = 0.0
        for gram, share in zip(self.grams, self.shares.tolist(), strict=True):
            if share > 0:
                squares = torch.linalg.vecdot(difference @ gram.to(difference.device), difference).clamp_min(0)
                errors = squares if self.loss == "mse" else squares.sqrt() * math.sqrt(2 / math.pi)
                total += share * float(errors.mean())
        return total
