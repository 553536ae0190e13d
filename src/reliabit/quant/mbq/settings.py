"""What a scale search minimises, and how thoroughly."""

from dataclasses import dataclass
from typing import Literal, get_args

from reliabit.errors import ReliabitError

Mode = Literal["fast", "faithful"]
ModalityWeight = Literal["gradient", "none", "token"]
Activation = Literal["all", "masked", "balanced"]
Loss = Literal["mae", "mse"]


@dataclass(frozen=True)
class SearchSettings:
    """A scale search.

    Attributes:
        mode: `faithful` compares the outputs of whole modules on all tokens of the calibration set, as published;
            `fast` does so on drawn tokens, for candidates that pass a filter.
        modality_weight: How the errors of tokens are weighted: `gradient` by the sensitivity of their modality
            (MBQ; tokens that are neither image nor answer do not count), `token` by their own gradient, `none` not at
            all (AWQ).
        loss: `mae` or `mse` of the outputs.
        activation: The tokens whose mean magnitude makes the scales: `all` as published, `masked` only those of
            images and answers, `balanced` the two modalities weighted 1 to the sensitivity ratio.
        ratios: Exponents tried, `0, 1 / ratios, ...`; 0 is no scaling at all, so that it is always a candidate.
        finalists: For `fast`, the candidates that pass the filter; no scaling is always among them.
    """

    mode: Mode = "fast"
    modality_weight: ModalityWeight = "gradient"
    loss: Loss = "mae"
    activation: Activation = "all"
    ratios: int = 20
    finalists: int = 3

    def __post_init__(self) -> None:
        """Refuse what is no choice.

        Raises:
            ReliabitError: With the choices there are.
        """
        choices = {"mode": Mode, "modality_weight": ModalityWeight, "loss": Loss, "activation": Activation}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ReliabitError(
                    f"a scale search cannot have {name}={getattr(self, name)!r}; "
                    f"choose from {', '.join(get_args(allowed))}"
                )
        if self.ratios < 1 or self.finalists < 1:
            raise ReliabitError(
                f"a scale search needs at least one ratio and one finalist, not {self.ratios} and {self.finalists}"
            )
