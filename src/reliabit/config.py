"""The typed configuration: what every key may hold."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from reliabit.errors import ReliabitError

BITS = (2, 3, 4, 8)


def choice(*options: object, default: Any = MISSING) -> Any:
    """A field that holds one of some options, checked by `validate`."""
    return field(default=default, metadata={"choices": options})


def positive(*, default: Any = MISSING) -> Any:
    """A field that holds a number above zero, checked by `validate`."""
    return field(default=default, metadata={"positive": True})


@dataclass
class DataConfig:
    """The questions.

    Attributes:
        name: The data source.
        splits: Images of each split.
        seed: Seeds the splits and, for generated sets, the images.
        root: The folder of the source's files, where they are not packaged.
        questions_per_image: For generated sets.
        ask: The splits that are asked, and about how many of their images; all where it is null, none where it is 0.
        one_question_an_image: Splits of which one question an image is asked: a certificate takes independent ones.
    """

    name: str = choice("easy_vqa", "scenes")
    splits: dict[str, int] = MISSING
    seed: int = MISSING
    root: str | None = MISSING
    questions_per_image: int | None = positive()
    ask: dict[str, int | None] = MISSING
    one_question_an_image: list[str] = MISSING


@dataclass
class RecipeConfig:
    """How a reference model is trained, and on what; see `reliabit.models.training_batches.Recipe`.

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
        predictions: For `evaluate`, the predictions table to read: a file, or `runs:/<run id>`.
        baseline: For `evaluate`, another predictions table to compare with.
    """

    name: str = choice("prepare", "pretrain", "quantize", "footprint", "answer", "evaluate", "pipeline")
    recipe: RecipeConfig | None = None
    checkpoint: str | None = None
    format: str = choice("reliabit", "compressed_tensors", default="reliabit")
    predictions: str | None = None
    baseline: str | None = None


@dataclass
class ModelConfig:
    """The model that is asked.

    Attributes:
        name: How runs and reports call it.
        family: The adapter.
        path: The checkpoint folder.
        dtype: The precision of the weights that are not quantized, and of the arithmetic.
        template: The prompt around a question, `{question}`.
        max_new_tokens: Where an answer is cut off.
    """

    name: str = MISSING
    family: str = choice("qwen2_vl", "idefics3")
    path: str = MISSING
    dtype: str = choice("float32", "bfloat16", "float16")
    template: str = MISSING
    max_new_tokens: int = positive()


@dataclass
class QuantConfig:
    """How the model is quantized.

    Attributes:
        name: How runs and reports call it.
        method: `none`, the baseline, or how scales and zeros are found.
        bits: Width of a weight; null for the baseline, and where every rule brings its own.
        group_size: Inputs that share a scale and a zero; null for whole rows.
        zero: `float`, `integer` (what serving engines read) or `symmetric` (no zero at all).
        solver: Whose code solves: ours (`chunked`) or the published library (`library`, for `hqq` alone).
        p_norm: The norm of the weight error that is minimized; null for the method's own.
        rules: Which modules, in order; see `reliabit.quant.plan_from_config`. What a rule leaves out, the keys
            above fill in.
    """

    name: str = MISSING
    method: str = choice("none", "rtn", "hqq", "hqq_plus")
    bits: int | None = choice(None, *BITS)
    group_size: int | None = choice(None, 16, 32, 64, 128, 256)
    zero: str = choice("float", "integer", "symmetric", default="float")
    solver: str = choice("chunked", "library", default="chunked")
    p_norm: float | None = positive(default=None)
    rules: list[Any] = field(default_factory=list)


@dataclass
class TrainerConfig:
    """Where and how it runs.

    Attributes:
        accelerator: Lightning's name of the device.
        batch_size: Questions a batch.
        threads: CPU threads; torch's own choice where it is null.
        progress_bar: Show progress and time left.
    """

    accelerator: str = choice("cpu", "gpu", "auto")
    batch_size: int = positive()
    threads: int | None = positive()
    progress_bar: bool = MISSING


@dataclass
class EvaluationConfig:
    """What is measured, and how sure the numbers have to be.

    Attributes:
        risks: Tolerances of coverage at risk.
        costs: Costs of a wrong answer, for effective reliability.
        n_bins: Bin counts of the calibration errors.
        certified_risks: Risks to certify a threshold for.
        delta: The probability with which a certificate may fail.
        slices: Columns of the predictions table to slice by.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level of intervals.
        seed: Seeds the resamples and the draw of calibration questions.
    """

    risks: list[float] = MISSING
    costs: list[float] = MISSING
    n_bins: list[int] = MISSING
    certified_risks: list[float] = MISSING
    delta: float = MISSING
    slices: list[str] = MISSING
    resamples: int = positive()
    level: float = MISSING
    seed: int = MISSING


@dataclass
class TrackingConfig:
    """Where runs are recorded.

    Attributes:
        uri: The tracking database, `sqlite:///...`, or a server's address.
        artifacts: The artifact folder of a sqlite store.
        experiment: The experiment's name.
        parent_file: Where a cell of a sweep finds its parent run; set by the entry point.
    """

    uri: str = MISSING
    artifacts: str = MISSING
    experiment: str = MISSING
    parent_file: str | None = None


@dataclass
class SweepConfig:
    """How sweeps behave: `baseline` adds the unquantized cells."""

    baseline: bool = MISSING


@dataclass
class PathsConfig:
    """Where files lie.

    Attributes:
        root: The project's folder.
        data: Prepared tables.
        output: What the task writes; where it is null, the folder that Hydra gives the job.
    """

    root: str = MISSING
    data: str = MISSING
    output: str | None = None

    def output_folder(self) -> Path:
        """The folder that the task writes to.

        Raises:
            ReliabitError: It is not set.
        """
        if self.output is None:
            raise ReliabitError("paths.output is null; name the folder to write to")
        return Path(self.output)


@dataclass
class Config:
    """One run."""

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = MISSING
