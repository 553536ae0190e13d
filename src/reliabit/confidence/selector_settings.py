"""How a Selector is built and trained."""

from dataclasses import dataclass

from reliabit.errors import ReliabitError

MAXPROB = "maxprob"
"""The input that is one number, exp(log_prob); every other input is a feature block."""


@dataclass(frozen=True)
class SelectorSettings:
    """The Selector of arXiv 2602.13289 in the form of Dancette et al. 2023, with a standardizer in front.

    Attributes:
        inputs: What it reads, in this order: feature blocks by name, and "maxprob".
        hidden: Units of each hidden layer.
        dropout: The probability of dropping a hidden unit in training.
        standardize: Whether inputs are brought to mean 0 and standard deviation 1 over the training examples; the
            published Selector does not, and the states of large models have channels a thousand times larger than
            the rest.
        learning_rate: AdamW's first learning rate; it falls linearly to 0 over all epochs. The published 1e-4 leaves
            6000 examples underfitted after 20 passes (synthetic states: AURC 0.078, with 1e-3 0.075, MaxProb 0.090).
        weight_decay: AdamW's weight decay.
        batch_size: Examples a step.
        epochs: Passes over the training examples, at most.
        patience: Passes without a better validation AURC after which training ends. The AURC wavers while the
            learning rate is high and settles as it falls; 5 passes ended trainings that had the best to come.
        gradient_clip: The largest norm of a step's gradient.

    Raises:
        ReliabitError: A value makes no sense.
    """

    inputs: tuple[str, ...] = ("image", "question", "first", MAXPROB)
    hidden: tuple[int, ...] = (768, 768)
    dropout: float = 0.1
    standardize: bool = True
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch_size: int = 256
    epochs: int = 20
    patience: int = 10
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        _require(len(self.inputs) > 0, "inputs is empty; name at least one feature block or maxprob")
        _require(len(set(self.inputs)) == len(self.inputs), f"inputs names a block twice: {', '.join(self.inputs)}")
        _require(all(units >= 1 for units in self.hidden), f"hidden is {list(self.hidden)}; every layer needs a unit")
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must lie in [0, 1)")
        _require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it must be at least 0")
        for name in ("learning_rate", "gradient_clip"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("batch_size", "epochs", "patience"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ReliabitError(f"the Selector's {otherwise}")
