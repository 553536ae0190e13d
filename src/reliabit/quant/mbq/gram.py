"""Judging a linear layer by Gram matrices: all tokens of the calibration set, none of them looked at."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class GramEvidence:
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

    def pilot(self) -> "GramEvidence":
        """All of it: a candidate costs one matrix product."""
        return self

    def judge(self, weights: Weights) -> float:
        """The loss of the layer with another weight.

        Example:
            >>> evidence = GramEvidence(torch.zeros(1, 2), torch.eye(2)[None], torch.ones(1), "mse")
            >>> evidence.judge({"weight": torch.tensor([[3.0, 4.0]])})
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
