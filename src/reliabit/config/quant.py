"""`quant`: how the model is quantized."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from reliabit.settings import choice, positive

BITS = (2, 3, 4, 8)

UNQUANTIZED = "none"
UNQUANTIZED_BITS = 16
"""The width of the weights that the checkpoints store unquantized, in bfloat16."""

"""What runs of the baseline are called by. A checkpoint that is quantized already runs with this method and a name of
its own: that of the method it was quantized by."""


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
