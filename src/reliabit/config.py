"""The typed configuration: what every key may hold, where the files lie, and the checks that come before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

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
        start: A checkpoint to go on from, in place of new weights.
        precision: Lightning's name of the precision.
    """

    data: dict[str, DataConfig] = MISSING
    start: str | None = None
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


def conf_folder() -> Path:
    """The configuration folder: the project's, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent
    project = package.parents[1] / "conf"
    return project if (project / "config.yaml").is_file() else package / "conf"


def project_root() -> Path:
    """The project's folder, or the current one where the package is installed on its own."""
    project = Path(__file__).resolve().parents[2]
    return project if (project / "conf" / "config.yaml").is_file() else Path.cwd()


def register() -> None:
    """Make the schema and the resolvers known to Hydra; to be called before anything is composed."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("project_root", lambda: str(project_root()), replace=True)


def to_config(composed: DictConfig) -> Config:
    """Turn a composed configuration into its typed form, every reference resolved and every value checked.

    Raises:
        ReliabitError: A value is missing or not among its choices.
    """
    from omegaconf.errors import OmegaConfBaseException

    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), own))
    except OmegaConfBaseException as error:
        raise ReliabitError(f"the configuration does not resolve: {' '.join(str(error).split())}") from error
    if not isinstance(config, Config):
        raise TypeError("the schema decides the type of a configuration")
    validate(config)
    return config


def validate(config: Config) -> None:
    """Check every value that its type alone does not, and what must hold between values.

    Raises:
        ReliabitError: Names the key, its value, and what it may be.
    """
    _check_fields(config, key="")
    _check_quant(config.quant)
    if "{question}" not in config.model.template:
        raise ReliabitError(f"model.template={config.model.template!r} lacks {{question}}, where the question goes")
    if config.data.name == "scenes" and config.data.questions_per_image is None:
        raise ReliabitError("data.questions_per_image is null, and data.name=scenes needs it")
    for key in ("splits", "ask"):
        for split, images in getattr(config.data, key).items():
            if images is not None and images < 0:
                raise ReliabitError(f"data.{key}.{split}={images} is negative; give the number of images, 0 for none")
    for split, images in config.data.ask.items():
        if images != 0 and not config.data.splits.get(split):
            raise ReliabitError(f"data.ask.{split}={images} asks a split that data.splits leaves empty")
    for key in ("delta", "level"):
        if not 0 < getattr(config.evaluation, key) < 1:
            raise ReliabitError(f"evaluation.{key}={getattr(config.evaluation, key)} must lie between 0 and 1")


def _check_quant(quant: QuantConfig) -> None:
    if quant.method == "none":
        return
    if not quant.rules:
        raise ReliabitError(f"quant.rules is empty, and quant.method={quant.method} needs to know which modules")
    if quant.bits is None and not all("bits" in rule for rule in quant.rules):
        raise ReliabitError(f"quant.bits is null, and a rule of quant.name={quant.name} brings no bits of its own")
    if quant.solver == "library" and quant.method != "hqq":
        raise ReliabitError(f"quant.solver=library runs quant.method=hqq alone, and quant.method={quant.method}")


def _check_fields(config: object, *, key: str) -> None:
    for entry in fields(config):  # type: ignore[arg-type]
        value, name = getattr(config, entry.name), f"{key}{entry.name}"
        if is_dataclass(value):
            _check_fields(value, key=f"{name}.")
            continue
        choices = entry.metadata.get("choices")
        if choices is not None and value not in choices:
            raise ReliabitError(f"{name}={value} is not a value of this key; choose one of: {_listed(choices)}")
        if entry.metadata.get("positive") and value is not None and value <= 0:
            raise ReliabitError(f"{name}={value} must be above zero")


def options_of(key: str) -> str:
    """What a key may hold, as a list to show; empty where any value of its type will do.

    >>> options_of("quant.bits"), options_of("seed")
    ('null, 2, 3, 4, 8', '')
    """
    *groups, name = key.split(".")
    node: Any = Config()
    for group in groups:
        node = getattr(node, group, None)
    if not is_dataclass(node):
        return ""
    found = [entry.metadata.get("choices", ()) for entry in fields(node) if entry.name == name]
    return _listed(found[0]) if found else ""


def _listed(choices: Sequence[object]) -> str:
    return ", ".join("null" if option is None else str(option) for option in choices)


def to_mapping(config: Config) -> Mapping[str, Any]:
    """The configuration as plain nested mappings, for records."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    if not isinstance(plain, dict):
        raise TypeError("a configuration is a mapping")
    return {str(key): value for key, value in plain.items()}
