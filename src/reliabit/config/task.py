"""`task`: what one process does."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.settings import choice, positive

NEEDED = {
    "recipe": "run with task=pretrain",
    "checkpoint": "name the folder to write to",
    "predictions": "name the predictions table that task=answer or a run wrote",
    "sweep": "name the parent run of the sweep to report on",
    "results": "name the folder of the pipeline's results",
}
"""What to do where a task needs a key that is null."""


@dataclass
class RecipeConfig:
    """How a reference model is trained, and on what; see `reliabit.models.recipe.Recipe`.

    Attributes:
        data: The data sources.
        precision: Lightning's name of the precision.
    """

    data: dict[str, DataConfig] = MISSING
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
    precision: str = MISSING


@dataclass
class TaskConfig:
    """What one process does.

    Attributes:
        name: The task.
        recipe: For `pretrain`.
        checkpoint: For `quantize`, the folder to write.
        format: For `quantize`, `reliabit` or `compressed_tensors`, which serving engines read.
        predictions: For `select` and `evaluate`, the predictions table to read; for `evaluate`, a file or
            `runs:/<run id>`.
        sweep: For `report`, the parent run of a sweep.
        baseline: For `evaluate`, another predictions table to compare with.
        results: For `promote`, the folder of the versioned pipeline's results.
    """

    name: str = choice(
        "prepare",
        "pretrain",
        "calibrate",
        "quantize",
        "footprint",
        "answer",
        "select",
        "evaluate",
        "report",
        "promote",
        "pipeline",
    )
    recipe: RecipeConfig | None = None
    checkpoint: str | None = None
    format: str = choice("reliabit", "compressed_tensors", default="reliabit")
    predictions: str | None = None
    sweep: str | None = None
    baseline: str | None = None
    results: str | None = None

    def place(self, key: str) -> str:
        """A file, folder or run that the task cannot do without.

        Args:
            key: Of `NEEDED`.

        Raises:
            ReliabitError: It is not set.
        """
        value: str | None = getattr(self, key)
        if value is None:
            raise ReliabitError(f"task.{key} is not set; {NEEDED[key]}")
        return value

    def training(self) -> RecipeConfig:
        """The recipe of `pretrain`.

        Raises:
            ReliabitError: It is not set.
        """
        if self.recipe is None:
            raise ReliabitError(f"task.recipe is not set; {NEEDED['recipe']}")
        return self.recipe
