"""The typed configuration of a run: one settings class a group, each beside the code that it is for."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from reliabit.confidence.settings import ConfidenceConfig
from reliabit.data.sources import DataConfig
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.files import leads_out
from reliabit.inference.settings import TrainerConfig
from reliabit.models.llama_cpp import FILE_TYPES
from reliabit.models.settings import JoiningRecipe, ModelConfig, Recipe, RecoveryRecipe
from reliabit.paths import PathsConfig
from reliabit.quant.settings import QuantConfig
from reliabit.registry.policy import Policy
from reliabit.settings import MISSING, choice
from reliabit.tracking.settings import SweepConfig, TrackingConfig

NEEDED = {
    "recipe": "run with task=pretrain",
    "joining": "run with task=pretrain",
    "recovery": "run with task=recover",
    "checkpoint": "name the folder to write to",
    "predictions": "name the predictions table that task=answer or a run wrote",
    "sweep": "name the parent run of the sweep to report on",
    "results": "name the folder of the pipeline's results",
}
"""What to do where a task needs a key that is null."""


@dataclass
class RecipeConfig(Recipe):
    """`task.recipe`: how a reference model is trained, and on what.

    Attributes:
        data: The data sources.
        precision: Lightning's name of the precision.
    """

    data: dict[str, DataConfig] = MISSING
    precision: str = MISSING


@dataclass
class JoiningConfig(JoiningRecipe):
    """`task.joining`: how pretrained parts are joined, and on what.

    Attributes:
        data: The data sources.
    """

    data: dict[str, DataConfig] = MISSING


@dataclass
class TaskConfig:
    """`task`: what one process does.

    Attributes:
        name: The task.
        recipe: For `pretrain`, where a model is trained from scratch.
        joining: For `pretrain`, where pretrained parts are joined.
        recovery: For `recover`, how scales, zeros and norms are trained.
        packed: For `recover`, a checkpoint that `quantize` wrote of the model; null quantizes it as configured.
        checkpoint: For `quantize` and `recover`, the folder to write.
        format: For `quantize`, `reliabit`; `compressed_tensors`, which vLLM reads; or `gguf`, which llama.cpp reads.
        gguf: With that, the type that llama.cpp's quantizer brings the decoder to with quant=none; null is f16.
        pre_tokenizer: With that, llama.cpp's name for how the tokenizer cuts text; null finds it.
        predictions: For `select` and `evaluate`, the predictions table to read; for `evaluate`, a file or
            `runs:/<run id>`.
        sweep: For `report`, the parent run of a sweep.
        baseline: For `evaluate`, another predictions table to compare with.
        results: For `promote`, the folder of the versioned pipeline's results.
    """

    name: str = choice(
        "prepare",
        "assemble",
        "pretrain",
        "calibrate",
        "search",
        "quantize",
        "recover",
        "footprint",
        "answer",
        "select",
        "evaluate",
        "report",
        "promote",
        "pipeline",
    )
    recipe: RecipeConfig | None = None
    joining: JoiningConfig | None = None
    recovery: RecoveryRecipe | None = None
    packed: str | None = None
    checkpoint: str | None = None
    format: str = choice("reliabit", "compressed_tensors", "gguf", default="reliabit")
    gguf: str | None = choice(None, *FILE_TYPES, default=None)
    pre_tokenizer: str | None = None
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

    def join(self) -> JoiningConfig:
        """The recipe of `pretrain` where pretrained parts are joined.

        Raises:
            ReliabitError: It is not set.
        """
        if self.joining is None:
            raise ReliabitError(f"task.joining is not set; {NEEDED['joining']}")
        return self.joining

    def recovering(self) -> RecoveryRecipe:
        """The recipe of `recover`.

        Raises:
            ReliabitError: It is not set.
        """
        if self.recovery is None:
            raise ReliabitError(f"task.recovery is not set; {NEEDED['recovery']}")
        return self.recovery


@dataclass
class Config:
    """One run.

    `other_data` holds data sets whose test questions are asked as well, as a shift from `data`.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    data: DataConfig = field(default_factory=DataConfig)
    other_data: dict[str, DataConfig] = field(default_factory=dict)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    registry: Policy = field(default_factory=Policy)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = MISSING

    def check(self, key: str) -> None:
        """Check names: those that files are called by, and shifts, other data sets and mixtures, known by them alone.

        Raises:
            ReliabitError: A name leads out of a folder, or is that of nothing, or of two things.
        """
        for place, called in self._file_names():
            if called is not None and called != MISSING and leads_out(called):
                raise ReliabitError(
                    f"{place}={called} leads out of the folder that is called by it; name it without .."
                )
        mixtures, others = self.evaluation.mixtures, set(self.other_data)
        labels = [*self.data.shifts, *(label for members in mixtures.values() for label in members)]
        if not labels and not others:
            return
        # Not needed for --help, and takes a tenth of a second.
        from reliabit.data.shifts import catalogue, parse_shift

        for label in labels:
            if label not in others:
                parse_shift(label)
        taken = {"none", "in_domain", *mixtures, *(shift.label for shift in catalogue())} & others - set(mixtures)
        if taken:
            raise ReliabitError(f"other_data.{min(taken)} has the name of something else; call the data set otherwise")

    def _file_names(self) -> Iterator[tuple[str, str | None]]:
        """What files and folders are called by, each with the key that says so."""
        yield from (
            ("model.name", self.model.name),
            ("engine.model", self.engine.model),
            ("quant.name", self.quant.name),
        )
        yield from (("evaluation.mixtures", name) for name in self.evaluation.mixtures)
        yield from (("other_data", name) for name in self.other_data)
        for key, data in {
            "data": self.data,
            **{f"other_data.{name}": one for name, one in self.other_data.items()},
        }.items():
            yield f"{key}.label", data.label
            yield from ((f"{key}.splits", split) for split in data.splits)
