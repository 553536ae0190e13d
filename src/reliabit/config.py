"""The typed configuration: what every key may hold."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from reliabit.errors import ReliabitError

BITS = (2, 3, 4, 8)

ESTIMATORS = (
    "maxprob",
    "length_normalized",
    "first_token",
    "min_token",
    "entropy",
    "margin",
    "p_true",
    "self_consistency",
    "semantic_entropy",
    "platt",
    "isotonic",
    "logistic",
    "selector",
    "selector_transfer",
)
"""The confidence estimators; see `reliabit.confidence`."""


def choice(*options: object, default: Any = MISSING) -> Any:
    """A field that holds one of some options, or a list of some of them, checked by `validate`."""
    return field(default=default, metadata={"choices": options})


def positive(*, default: Any = MISSING) -> Any:
    """A field that holds a number above zero, checked by `validate`."""
    return field(default=default, metadata={"positive": True})


@dataclass
class DataConfig:
    """The questions.

    Attributes:
        name: The data source.
        splits: Images of each split; for sets read from files also floats, shares of all of them.
        seed: Seeds the splits and, for generated sets, the images.
        root: The folder of the source's files, where they are not packaged.
        layout: For sets read from files, `official` (JSON and an image folder) or `hub` (Parquet, images within).
        files: For sets read from files, which ones, relative to `root`.
        questions_per_image: For generated sets.
        template: What goes around each question of this set, `{question}`; `model.template` goes around that.
        split_ids: By split, a file of the ids that it consists of; null for drawn splits.
        split_ids_of: What they are ids of.
        on_bad_sample: Whether samples that cannot be read end the task, or are listed and left out.
        ask: The splits that are asked, and about how many of their images; all where it is null, none where it is 0.
        one_question_an_image: Splits of which one question an image is asked: a certificate takes independent ones.
        shifts: Shifts under which the split `test` is asked again; see `reliabit.data.shifts`.
        shift_images: Images of `test` (and of other data sets) that are asked under each shift; all where it is null.
    """

    name: str = choice("easy_vqa", "scenes", "vqav2", "advqa", "vizwiz")
    splits: dict[str, int | float] = MISSING
    seed: int = MISSING
    root: str | None = MISSING
    layout: str = choice("official", "hub", default="official")
    files: dict[str, str] = field(default_factory=dict)
    template: str = "{question}"
    split_ids: dict[str, str | None] = field(default_factory=dict)
    split_ids_of: str = choice("image", "question", default="image")
    on_bad_sample: str = choice("fail", "skip", default="fail")
    questions_per_image: int | None = positive()
    ask: dict[str, int | None] = MISSING
    one_question_an_image: list[str] = MISSING
    shifts: list[str] = MISSING
    shift_images: int | None = positive()


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


@dataclass
class ModelConfig:
    """The model that is asked.

    Attributes:
        name: How runs and reports call it.
        family: The adapter.
        path: The checkpoint folder, or `hub:<organization>/<name>`.
        revision: The commit of the hub that the checkpoint must be; null takes a folder as it is.
        download: Whether a checkpoint of the hub may be fetched; otherwise it must be in the local cache already.
        dtype: The precision of the weights that are not quantized, and of the arithmetic.
        template: The prompt around a question, `{question}`.
        max_new_tokens: Where an answer is cut off.
    """

    name: str = MISSING
    family: str = choice("qwen2_vl", "qwen2_5_vl", "idefics3")
    path: str = MISSING
    revision: str | None = None
    download: bool = False
    dtype: str = choice("float32", "bfloat16", "float16")
    template: str = MISSING
    max_new_tokens: int = positive()


@dataclass
class ScalingConfig:
    """The scale search before quantization; see `reliabit.quant.mbq.settings.SearchSettings`.

    Attributes:
        search: `none`, `fast`, on drawn tokens, or `faithful`, as published.
        modality_weight: `gradient` (MBQ), `token` (each token by its own gradient) or `none` (AWQ).
        loss: The error of outputs that is minimized.
        activation: The tokens whose mean magnitude makes the scales.
        ratios: Exponents tried.
        finalists: For `fast`, the candidates that are judged by all drawn tokens.
    """

    search: str = choice("none", "fast", "faithful", default="none")
    modality_weight: str = choice("gradient", "token", "none", default="gradient")
    loss: str = choice("mae", "mse", default="mae")
    activation: str = choice("all", "masked", "balanced", default="all")
    ratios: int = positive(default=20)
    finalists: int = positive(default=3)


@dataclass
class CalibrationConfig:
    """The calibration set, and what is kept of it.

    Attributes:
        split: The split of `data` whose images are used, one question each.
        images: How many.
        chat: An image-text chat JSON file in the layout of ShareGPT4V to use instead of `data`.
        chat_images: The folder that its image paths start from.
        seed: Seeds the choice of questions and tokens.
        batch_size: Sequences a batch.
        tokens: Tokens kept of each modality, at most.
        contexts: Sequences kept whole for the attention, at least.
        gram: Keep Gram matrices of all tokens, and judge plain linear layers by them.
    """

    split: str = choice("train", "dev", default="dev")
    images: int = positive(default=256)
    chat: str | None = None
    chat_images: str | None = None
    seed: int = 0
    batch_size: int = positive(default=16)
    tokens: int = positive(default=256)
    contexts: int = positive(default=48)
    gram: bool = False


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
        scaling: The scale search that comes first.
        calibration: The calibration set, for the scale search.
    """

    name: str = MISSING
    method: str = choice("none", "rtn", "hqq", "hqq_plus")
    bits: int | None = choice(None, *BITS)
    group_size: int | None = choice(None, 16, 32, 64, 128, 256)
    zero: str = choice("float", "integer", "symmetric", default="float")
    solver: str = choice("chunked", "library", default="chunked")
    p_norm: float | None = positive(default=None)
    rules: list[Any] = field(default_factory=list)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class FeaturesConfig:
    """Which states of the answering pass a Selector reads.

    Attributes:
        layer: A decoder layer, negative ones from the last; null for the state after the final norm.
        dtype: How they are stored.
    """

    layer: int | None = MISSING
    dtype: str = choice("float16", "float32")


@dataclass
class SelectorConfig:
    """The Selector and its training; see `reliabit.confidence.selector_training.SelectorSettings`.

    Attributes:
        inputs: Of the pooled states `image`, `question` and `first`, and `maxprob`.
        hidden: Widths of the two hidden layers.
        dropout: Share of hidden units that training drops.
        standardize: Scale every input by its mean and deviation on the training split.
        learning_rate: Its peak.
        weight_decay: AdamW's.
        batch_size: Examples a step.
        epochs: At most so many passes over the training split.
        patience: Epochs without a better validation AURC before training stops.
        gradient_clip: The largest norm of a step's gradient.
        seeds: One Selector is trained for each; the first is the one that is used.
    """

    inputs: list[str] = choice("image", "question", "first", "maxprob")  # noqa: RUF009
    hidden: list[int] = MISSING
    dropout: float = MISSING
    standardize: bool = MISSING
    learning_rate: float = positive()
    weight_decay: float = MISSING
    batch_size: int = positive()
    epochs: int = positive()
    patience: int = positive()
    gradient_clip: float = positive()
    seeds: list[int] = MISSING


@dataclass
class SelfEvaluationConfig:
    """The second prompt of P(True): a template with `{question}` and `{answer}`, and the two words to choose from."""

    template: str = MISSING
    right: str = MISSING
    wrong: str = MISSING


@dataclass
class SamplingConfig:
    """Sampled answers: how many a question, at which temperature."""

    samples: int = positive()
    temperature: float = positive()


@dataclass
class ConfidenceConfig:
    """How sure the model is said to be.

    Attributes:
        name: How runs and reports call the choice.
        estimators: Of `reliabit.confidence`, `maxprob` among them: the others are compared with it.
        features: For the Selector.
        selector: For the Selector.
        p_true: For `p_true`.
        sampling: For `self_consistency` and `semantic_entropy`.
    """

    name: str = MISSING
    estimators: list[str] = choice(*ESTIMATORS)  # noqa: RUF009
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    p_true: SelfEvaluationConfig = field(default_factory=SelfEvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass
class TrainerConfig:
    """Where and how it runs.

    Attributes:
        accelerator: Lightning's name of the device.
        batch_size: Questions a batch.
        threads: CPU threads; torch's own choice where it is null.
        devices: Answer on so many devices at once, a process and a whole model each.
        device_map: How one model is spread over the devices, and over the host's memory and the disk where they are too
            small; null for models that fit on one.
        device_memory: For `device_map`, what each device may take, such as `70GiB`; what is free where it is null.
        host_memory: For `device_map`, what the host's memory may take, likewise; the rest stays on disk.
        progress_bar: Show progress and time left.
    """

    accelerator: str = choice("cpu", "gpu", "auto")
    batch_size: int = positive()
    threads: int | None = positive()
    devices: int = positive(default=1)
    device_map: str | None = choice(None, "auto", "balanced", "balanced_low_0", "sequential", default=None)
    device_memory: str | None = None
    host_memory: str | None = None
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
        reported: The split that reports.
        mixtures: Mixtures of the questions as they are with those of some shifts, by name.
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
    reported: str = choice("dev", "test")
    mixtures: dict[str, list[str]] = MISSING
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
    """How sweeps behave.

    Attributes:
        baseline: Add the unquantized cells.
        force: Repeat what is finished already.
        resume: Go on with an earlier sweep: `last`, or the id of its parent run.
        on_failure: Whether the cells after a failed one still run.
        paper: Close the sweep with the tables, figures and findings of `reliabit.evaluation.paper`.
    """

    baseline: bool = MISSING
    force: bool = MISSING
    resume: str | None = MISSING
    on_failure: str = choice("continue", "stop")
    paper: bool = MISSING


@dataclass
class IncumbentConfig:
    """By how much a new version may be worse than the one that it replaces; each is shown to be less, or refused.

    Attributes:
        accuracy_loss: Of accuracy, in [0, 1].
        augrc_loss: Of AUGRC.
        coverage_loss: Of certified coverage.
    """

    accuracy_loss: float = MISSING
    augrc_loss: float = MISSING
    coverage_loss: float = MISSING


@dataclass
class RegistryConfig:
    """Which configuration goes live; see `reliabit.registry.policy`.

    Attributes:
        name: How reports call the policy.
        model: The registered model that versions are of.
        confidence: What abstains.
        objective: What is to be best among the configurations that pass.
        certified_risks: Risks that the promoted bundle carries a certified threshold for.
        required_risk: Of these, the one that coverage is required at, and that is served by default.
        minimum_coverage: The certified coverage at that risk, at least.
        accuracy_loss: The accuracy that the unquantized model may have more, less than that.
        slices: Columns of the predictions table to slice by.
        slice_loss: The accuracy that the unquantized model may have more on any slice.
        slice_questions: Slices with fewer questions are judged together.
        incumbent: What may be lost against the version that is live.
        latency_tolerance: The relative difference of latencies that means nothing.
        delta: The probability with which a certificate may fail.
        reported: The split that reports.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level of every rule, corrected for how many configurations it was chosen among.
        seed: Seeds the resamples and the draw of calibration questions.
    """

    name: str = MISSING
    model: str = MISSING
    confidence: str = choice("maxprob", "selector")
    objective: str = choice("stored_bytes", "resident_bytes", "latency", "accuracy", "augrc", "certified_coverage")
    certified_risks: list[float] = MISSING
    required_risk: float = MISSING
    minimum_coverage: float = MISSING
    accuracy_loss: float = MISSING
    slices: list[str] = MISSING
    slice_loss: float = MISSING
    slice_questions: int = positive()
    incumbent: IncumbentConfig = field(default_factory=IncumbentConfig)
    latency_tolerance: float = MISSING
    delta: float = MISSING
    reported: str = choice("dev", "test")
    resamples: int = positive()
    level: float = MISSING
    seed: int = MISSING


@dataclass
class PathsConfig:
    """Where files lie.

    Attributes:
        root: The project's folder.
        data: Prepared tables.
        cache: What several runs share.
        cache_gib: So much of it stays; what was of no use for longest goes first.
        output: What the task writes; where it is null, the folder that Hydra gives the job.
    """

    root: str = MISSING
    data: str = MISSING
    cache: str = MISSING
    cache_gib: float = positive()
    output: str | None = None

    def cache_bytes(self) -> int:
        """The room below `cache`."""
        return int(self.cache_gib * 2**30)

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
    """One run.

    `other_data` holds data sets whose test questions are asked as well, as a shift from `data`.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    data: DataConfig = field(default_factory=DataConfig)
    other_data: dict[str, DataConfig] = field(default_factory=dict)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = MISSING
