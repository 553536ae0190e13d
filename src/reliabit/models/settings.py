"""The settings of the model that is asked, and of how a reference model is trained."""

from dataclasses import dataclass
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.models.families import FAMILIES, Adapter, find_adapter
from reliabit.settings import MISSING, check_template, choice, component, positive


@dataclass
class ModelConfig:
    """`model`: the model that is asked.

    Attributes:
        name: How runs and reports call it.
        family: Its `Adapter`; null where an endpoint serves it.
        path: The checkpoint folder, or `hub:<organization>/<name>`; null where an endpoint serves it.
        revision: The commit of the hub that the checkpoint must be; null takes a folder as it is.
        download: Whether a checkpoint of the hub may be fetched; otherwise it must be in the local cache already.
        dtype: The precision of the weights that are not quantized, and of the arithmetic.
        template: The prompt around a question, `{question}`.
        max_new_tokens: Where an answer is cut off.
        max_pixels: Larger images are shrunk to so many pixels, where the family takes images of any size; null for the
            checkpoint's own limit.
        parts: For a model that `task=assemble` makes of public packages, the folder of its learned part.
    """

    name: str = MISSING
    family: str | None = component(FAMILIES, or_null=True)
    path: str | None = MISSING
    revision: str | None = None
    download: bool = False
    dtype: str = choice("float32", "bfloat16", "float16")
    template: str = MISSING
    max_new_tokens: int = positive()
    max_pixels: int | None = positive(default=None)
    parts: str | None = None

    def check(self, key: str) -> None:
        """Check that the prompt shows the question."""
        check_template(self.template, key=f"{key}.template", fields=("question",))

    @property
    def folder(self) -> Path:
        """The checkpoint folder.

        Raises:
            ReliabitError: There is none, since somebody else serves the model.
        """
        return Path(self.place)

    @property
    def place(self) -> str:
        """Where the checkpoint is, as it was given: a folder, or one of the hub.

        Raises:
            ReliabitError: Nowhere here, since somebody else serves the model.
        """
        if self.path is None:
            raise ReliabitError(f"model={self.name} has no checkpoint here; name its folder as model.path, or a model")
        return self.path

    @property
    def known_family(self) -> str:
        """The name of the family.

        Raises:
            ReliabitError: It is not told.
        """
        if self.family is None:
            raise ReliabitError(f"model={self.name} does not say its model.family; choose one of {', '.join(FAMILIES)}")
        return self.family

    @property
    def adapter(self) -> Adapter:
        """What is known of the family; see `known_family`."""
        return find_adapter(self.known_family)

    def learned_part(self) -> Path:
        """The folder of the learned part of a model that is assembled.

        Raises:
            ReliabitError: It is none of these.
        """
        if self.parts is None:
            raise ReliabitError(f"model={self.name} is not assembled of parts; choose model=idefics3_smollm2")
        return Path(self.parts)


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


@dataclass
class JoiningRecipe:
    """How a vision tower and a decoder that were pretrained apart are joined; both stay as they are.

    Attributes:
        steps: Optimizer steps; an epoch, after which training can be resumed, is `epoch_steps` of them.
        images: Images a step of each source.
        questions: Questions an image, drawn anew each time it comes.
        poses: In how many poses the images of each source are seen; 1 is as they are.
        adapted: The layers of the decoder that get a low-rank adapter, by the last part of their names.
        rank: Its rank.
        connector_rate: The peak of the connector's learning rate.
        adapter_rate: The peak of that of the adapters and norms.
        weight_decay: Of AdamW.
        dropout: The share of the tower's features that a step leaves out.
        warmup_steps: Steps until the peak.
        validation_images: Images of each source's validation split to watch progress on.
        seed: Seeds the weights and the order of the data.
    """

    steps: int = positive()
    epoch_steps: int = positive()
    images: dict[str, int] = MISSING
    questions: int = positive()
    poses: dict[str, int] = MISSING
    adapted: list[str] = MISSING
    rank: int = positive()
    connector_rate: float = positive()
    adapter_rate: float = positive()
    weight_decay: float = MISSING
    dropout: float = MISSING
    warmup_steps: int = positive()
    validation_images: int = positive()
    seed: int = MISSING


@dataclass
class RecoveryRecipe:
    """How scales, zeros and norms of a packed model are trained towards the model that it was quantized from.

    Attributes:
        steps: Optimizer steps; an epoch, after which training can be resumed, is `epoch_steps` of them.
        images: Images of `train` a step.
        scored_images: Images of `dev` a step, where confidences are scored.
        questions: Questions an image, drawn anew at each step.
        reliability_weight: Of the score of confidences on `dev`; 0 is distillation alone, and `dev` is not read.
        score: Which proper score: `brier` or `log`.
        learning_rate: The peak, of factors of scales, of zeros in codes, and of norms.
        warmup_steps: Steps until the peak.
        held_out_images: Images of `train`, its last, that progress is watched on and that are not trained on.
        seed: Seeds the order of the data.
    """

    steps: int = positive()
    epoch_steps: int = positive()
    images: int = positive()
    scored_images: int = positive()
    questions: int = positive()
    reliability_weight: float = MISSING
    score: str = choice("brier", "log")
    learning_rate: float = positive()
    warmup_steps: int = positive()
    held_out_images: int = positive()
    seed: int = MISSING

    def check(self, key: str) -> None:
        """Check the weight: a negative one would reward confidences that are wrong."""
        if not 0 <= self.reliability_weight < float("inf"):
            raise ReliabitError(f"{key}.reliability_weight={self.reliability_weight} is no weight; give 0 or more")
