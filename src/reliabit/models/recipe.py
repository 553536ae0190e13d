"""How a reference model is trained."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.settings import positive


@dataclass
class Recipe:
    """How a reference model is trained.

    Attributes:
        steps: Optimizer steps; an epoch, after which training can be resumed, is `epoch_steps` of them.
        images: Images a step, shared among the sources by `mix`.
        questions: Questions an image, drawn anew at each step.
        mix: The share of the images that each source gets.
        first_steps: Steps of the curriculum, which draws by `first_mix` and asks only questions of `first_types`.
        flipped: The sources whose answers do not change when an image is flipped or turned.
        learning_rate: The peak of the one-cycle schedule.
        warmup_steps: Steps until the peak.
        validation_images: Images of each source's validation split to watch progress on.
        seed: Seeds the weights and the order of the data.
    """

    steps: int = positive()
    epoch_steps: int = positive()
    images: int = positive()
    questions: int = positive()
    mix: dict[str, float] = MISSING
    first_steps: int = MISSING
    first_mix: dict[str, float] = MISSING
    first_types: list[str] = MISSING
    flipped: list[str] = MISSING
    learning_rate: float = positive()
    warmup_steps: int = positive()
    validation_images: int = positive()
    seed: int = MISSING
