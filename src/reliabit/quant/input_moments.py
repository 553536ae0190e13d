"""What a method that learns from the inputs of its layer asks for, and is given: their second moments."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Weighting = Literal["none", "modality", "token"]

_SMALLEST_BLOCK = 64
_BLOCKS = 6


@dataclass(frozen=True)
class InputNeeds:
    """What a method wants to know of the inputs of its layer.

    Attributes:
        weighting: What each token counts: all the same (`none`), image tokens what the sensitivity of their modality
            says (`modality`), or each token what its own gradient says (`token`). The last two need the statistics that
            `task=calibrate` measures.
        residual: Whether it compares them with the inputs that the unquantized model has there.
    """

    weighting: Weighting = "none"
    residual: bool = False

    @property
    def statistics(self) -> bool:
        """Whether statistics of the unquantized model are needed."""
        return self.weighting != "none"


@dataclass
class InputMoments:
    """Second moments of the inputs `x` that a layer gets from what is quantized before it.

    Attributes:
        second: `sum(w x x') / sum(w)` over tokens with their weights `w`, float32 `[in_features, in_features]`.
        residual: `sum(w (e - x) x') / sum(w)` with the inputs `e` of the unquantized model, of the same shape, where it
            was asked for.
        shared: What a method has made of these moments and may use again for the next layer with the same inputs.
    """

    second: Tensor
    residual: Tensor | None = None
    shared: dict[Any, Any] = field(default_factory=dict)


class MomentSums:
    """Adds up moments, a batch of tokens at a time.

    Example:
        >>> sums = MomentSums(InputNeeds())
        >>> sums.add(torch.tensor([[1.0, 2.0], [1.0, 0.0]]))
        >>> sums.moments().second
        tensor([[1., 1.],
                [1., 2.]])
    """

    def __init__(self, needs: InputNeeds) -> None:
        """Begin with nothing."""
        self.needs = needs
        self._total = 0.0
        self._second: Tensor | None = None
        self._residual: Tensor | None = None

    @torch.no_grad()
    def add(self, inputs: Tensor, exact: Tensor | None = None, weights: Tensor | None = None) -> None:
        """Add tokens, `[tokens, in_features]`, with those of the unquantized model and weights `[tokens]`, if any."""
        values = inputs.float()
        weighted = values if weights is None else values * weights.to(values)[:, None]
        self._total += len(values) if weights is None else float(weights.sum(dtype=torch.float64))
        if self._second is None:
            self._second = values.new_zeros((values.shape[1], values.shape[1]))
        _add_upper(self._second, values, weighted)
        if self.needs.residual and exact is not None:
            if self._residual is None:
                self._residual = torch.zeros_like(self._second)
            self._residual.addmm_((exact.float() - values).T, weighted)

    def moments(self) -> InputMoments:
        """What has come together, divided by the weight of all tokens."""
        if self._second is None:
            raise ValueError("no tokens were added")
        scale = 1 / self._total if self._total > 0 else 0.0
        upper = self._second.triu()
        second = (upper + upper.triu(1).T) * scale
        return InputMoments(second, None if self._residual is None else self._residual * scale)


def _add_upper(sums: Tensor, values: Tensor, weighted: Tensor) -> None:
    """Add `values' @ weighted` to the upper triangle, in blocks: what is below would cost nearly as much again."""
    width = sums.shape[0]
    step = max(_SMALLEST_BLOCK, -(-width // _BLOCKS))
    for start in range(0, width, step):
        rows = slice(start, min(start + step, width))
        sums[rows, start:].addmm_(values[:, rows].T, weighted[:, start:])
