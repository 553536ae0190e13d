"""`quant`: how the model is quantized; the schema of the configuration is what the code takes. It needs no torch."""

from dataclasses import dataclass, field
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.settings import choice, listed, positive

BITS = (2, 3, 4, 8)

GROUP_SIZES = (16, 32, 64, 128, 256)
"""What a configuration may choose, beside whole rows; a layer takes those that divide its inputs."""

UNQUANTIZED = "none"
"""`quant.name` and `quant.method` of the baseline. A checkpoint that is quantized already runs with this method and a
name of its own: that of the method it was quantized by."""

UNQUANTIZED_BITS = 16
"""The width of the weights that the checkpoints store unquantized, in bfloat16."""

_MISSING: Any = "???"  # OmegaConf's mark of what a configuration must say; this floor does not import it.

COLLECTED = ("tokens", "contexts", "gram", "seed")
"""What of `CalibrationConfig` says what statistics hold; the rest says which questions they are of."""


@dataclass
class ScalingConfig:
    """The scale search before quantization.

    Attributes:
        search: `none`; `fast`, on drawn tokens, for candidates that pass a filter; or `faithful`, which compares the
            outputs of whole modules on all tokens of the calibration set, as published.
        modality_weight: How the errors of tokens are weighted: `gradient` by the sensitivity of their modality (MBQ;
            tokens that are neither image nor answer do not count), `token` by their own gradient, `none` not at all
            (AWQ).
        loss: The error of outputs that is minimized.
        activation: The tokens whose mean magnitude makes the scales: `all` as published, `masked` only those of images
            and answers, `balanced` the two modalities weighted 1 to the sensitivity ratio.
        ratios: Exponents tried, `0, 1 / ratios, ...`; 0 is no scaling at all, so that it is always a candidate.
        finalists: For `fast`, the candidates that pass the filter; no scaling is always among them.
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
        gram: Keep a Gram matrix of all tokens for each modality, and judge plain linear layers by them; memory is the
            square of a layer's width.
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

    def check(self, key: str) -> None:
        """See `reliabit.settings.check`."""
        if (self.chat is None) != (self.chat_images is None):
            raise ReliabitError(f"{key}.chat and {key}.chat_images go together; set both or neither")

    def collected(self) -> dict[str, Any]:
        """What is kept of the calibration set, however it was chosen.

        >>> CalibrationConfig().collected()
        {'tokens': 256, 'contexts': 48, 'gram': False, 'seed': 0}
        """
        return {name: getattr(self, name) for name in COLLECTED}


@dataclass
class SearchConfig:
    """The search for a plan; its costs are measured on the calibration set.

    Attributes:
        widths: What parts of the model may be given, beside staying as they are; empty where `quant.rules` say it.
        minimized: What a plan is to cost least of, at answer tokens: `kl`, the divergence from what the unquantized
            model says, or `nll` of the reference answers.
        refine: Measure once more around the plan that single changes come to.
    """

    widths: list[int] = field(default_factory=list)
    minimized: str = choice("kl", "nll", default="kl")
    refine: bool = True

    def check(self, key: str) -> None:
        """See `reliabit.settings.check`."""
        if any(width not in BITS for width in self.widths) or len({*self.widths}) < len(self.widths):
            raise ReliabitError(f"{key}.widths={self.widths} must be some of {listed(BITS)}, each once")


@dataclass
class QuantConfig:
    """How the model is quantized.

    Attributes:
        name: How runs and reports call it.
        method: `none`, the baseline, or how scales and zeros are found: a module of `reliabit.quant.methods`, or a
            method that an installed package adds.
        bits: Width of a weight; null for the baseline, and where every rule brings its own.
        group_size: Inputs that share a scale and a zero; null for whole rows.
        zero: `float`, `integer` (what serving engines read) or `symmetric` (no zero at all).
        solver: Whose code solves: ours (`chunked`) or the published library (`library`, for `hqq` alone).
        p_norm: The norm of the weight error that is minimized; null for the method's own.
        options: The settings that the method itself declares (`Quantizer.options`).
        rules: Which modules, in order; see `reliabit.quant.plan_from_config`. What a rule leaves out, the keys
            above fill in.
        budget_mib: MiB that a searched plan may take, or
        budget_bits: bits a weight, of the whole model.
        plan: A plan file that a search wrote; what it says goes before the keys above.
        search: How a plan is searched, in place of `rules`.
        scaling: The scale search that comes first.
        calibration: The calibration set: for the scale search, the search for a plan and methods that learn from it.
    """

    name: str = _MISSING
    method: str = _MISSING
    bits: int | None = choice(None, *BITS)
    group_size: int | None = choice(None, *GROUP_SIZES)
    zero: str = choice("float", "integer", "symmetric", default="float")
    solver: str = choice("chunked", "library", default="chunked")
    p_norm: float | None = positive(default=None)
    options: dict[str, Any] = field(default_factory=dict)
    rules: list[Any] = field(default_factory=list)
    budget_mib: float | None = positive(default=None)
    budget_bits: float | None = positive(default=None)
    plan: str | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    @property
    def is_calibrated(self) -> bool:
        """Whether it learns from a calibration set: for a plan, to scale channels, or by a method that does (GPTQ)."""
        scaled = self.scaling.search != "none"
        return self.method != UNQUANTIZED and (scaled or self.is_searched or self.learns_inputs)

    @property
    def learns_inputs(self) -> bool:
        """Whether a method of the plan learns from the inputs of its layers."""
        from reliabit.quant.methods import needs_inputs

        named = {rule.get("method", self.method) if isinstance(rule, dict) else self.method for rule in self.rules}
        return self.method != UNQUANTIZED and any(needs_inputs(method) for method in named)

    @property
    def is_searched(self) -> bool:
        """Whether its plan is to be found for a budget."""
        return self.method != UNQUANTIZED and bool(self.search.widths)

    @property
    def width(self) -> str:
        """What runs call the width, or the budget.

        >>> QuantConfig(bits=3).width, QuantConfig(bits=None, budget_mib=136.2).width
        ('3b', '136.2MiB')
        """
        named = ((self.bits, "b"), (self.budget_bits, "b"), (self.budget_mib, "MiB"))
        return next((f"{value:g}{unit}" for value, unit in named if value is not None), "")

    def check(self, key: str) -> None:
        """See `reliabit.settings.check`."""
        # Only where it is asked for, as results that settings are a part of do not depend on the methods there are.
        from reliabit.quant.methods import QUANTIZERS, read_options

        methods = (UNQUANTIZED, *QUANTIZERS.found())
        if self.method not in methods:
            raise ReliabitError(
                f"{key}.method={self.method} is not a value of this key; choose one of: {listed(methods)}"
            )
        if self.method == UNQUANTIZED:
            return
        if self.options:
            read_options(self.method, self.options, key=f"{key}.options")
        if self.is_searched:
            self._check_search(key)
            return
        if self.budget_mib is not None or self.budget_bits is not None:
            raise ReliabitError(
                f"{key}.budget_mib and {key}.budget_bits are for quant=searched; choose it, or set bits"
            )
        if self.plan is None:
            self._check_rules(key)

    def _check_rules(self, key: str) -> None:
        if not self.rules:
            raise ReliabitError(
                f"{key}.rules is empty, and {key}.method={self.method} needs to know which modules; give rules, or a "
                f"plan file as {key}.plan"
            )
        for rule in self.rules:
            if not isinstance(rule, dict):
                raise ReliabitError(f"{key}.rules has {rule!r}, and a rule is a mapping, as {{components: [vision]}}")
        if self.bits is None and not all("bits" in rule for rule in self.rules):
            raise ReliabitError(f"{key}.bits is null, and a rule of {key}.name={self.name} brings no bits of its own")
        if self.solver == "library" and self.method != "hqq":
            raise ReliabitError(f"{key}.solver=library runs {key}.method=hqq alone, and {key}.method={self.method}")

    def _check_search(self, key: str) -> None:
        if (self.budget_mib is None) == (self.budget_bits is None):
            both = "both are" if self.budget_mib is not None else "neither is"
            raise ReliabitError(f"{key}.budget_mib or {key}.budget_bits says what a plan may take, and {both} set")
        if self.rules or self.plan is not None or self.bits is not None:
            raise ReliabitError(
                f"{key}.search finds a plan, and {key}.rules, {key}.plan or {key}.bits give one; leave one of them out"
            )
        if self.scaling.search != "none":
            raise ReliabitError(f"{key}.search measures weights as they are; set {key}.scaling.search=none")
