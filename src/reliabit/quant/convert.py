"""Quantize a model in memory: `quantize_model`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.grid import Layout, QuantizedWeight, dequantize, row_chunks
from reliabit.quant.input_moments import InputMoments
from reliabit.quant.layers import QuantEmbedding, QuantLinear
from reliabit.quant.mbq.decoder import ResidentDecoder
from reliabit.quant.mbq.scaling import Calibration, scale_model
from reliabit.quant.mbq.search import GroupScale
from reliabit.quant.module_names import component_of
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Plan, Rule, Scheme, default_plan, plan_from_config, resolve
from reliabit.quant.quantized_prefix import InputCalibration, QuantizedPrefix, check_inputs, learns_inputs
from reliabit.quant.quantizer import check_finite, quantize_weight, quantizer_of
from reliabit.quant.settings import BITS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ConvertedModule:
    """One module that was quantized.

    Attributes:
        name: Its dotted name.
        scheme: The method, bits and group size it was quantized with.
        weights: How many weights it has.
        stored_bytes: Bytes of its codes, scales and zeros.
        weight_error: Mean absolute error of its weights, relative to their mean magnitude.
    """

    name: str
    scheme: Scheme
    weights: int
    stored_bytes: int
    weight_error: float


@dataclass(frozen=True)
class ConversionReport:
    """What `quantize_model` did.

    Attributes:
        modules: The converted modules, in the model's order.
        scales: What was scaled before, if anything was.
    """

    modules: tuple[ConvertedModule, ...]
    scales: tuple[GroupScale, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the converted modules."""
        return tuple(module.name for module in self.modules)

    @property
    def effective_bits(self) -> float:
        """Bits a quantized weight takes, scales and zeros included."""
        return 8 * sum(module.stored_bytes for module in self.modules) / sum(module.weights for module in self.modules)


TIED = ("embeddings", "lm_head")
"""Components that may be one matrix."""

GROUP_SIZES = (64, 32, 16)
"""What is tried, in order, where no group size is given: the first that divides the inputs of all modules."""


@torch.no_grad()
def quantize_model(
    model: nn.Module,
    plan: Plan | Sequence[Mapping[str, Any]] | None = None,
    calibration: Calibration | None = None,
    *,
    inputs: InputCalibration | None = None,
    bits: int | None = None,
    method: str | None = None,
    group_size: int | None = None,
) -> ConversionReport:
    """Quantize a model in place: to a number of bits, or module by module as a plan says.

    `quantize_model(model, bits=3)` quantizes the linear layers of the decoder, as the field does, by `hqq`, and leaves
    vision tower, connector, embeddings and head as they are; of a model whose parts are called otherwise than
    `component_of` knows, all linear layers but the head. Everything that can be refused is refused before the first
    module is changed.

    Embeddings and head that are one matrix are no longer one once either is quantized: what is named gets codes of its
    own, and what is not keeps the matrix as it was. So a head at 8 bits beside embeddings as they were takes half a
    matrix more than both as one.

    Args:
        model: A model of transformers, or any whose linear layers and embeddings a plan names.
        plan: Which modules, and how: a `Plan`, or its rules as mappings, as `plan_from_config` takes them; what a rule
            leaves out the other arguments say. None is one scheme for the modules named above.
        calibration: Statistics and a scale search (MBQ, AWQ); scales are folded into the decoder before it is
            quantized. None quantizes the weights as they are.
        inputs: What methods that learn from the inputs of their layers are shown (GPTQ); needed for these alone. A
            layer's inputs are those that the quantized layers before it make; what is outside the decoder is quantized
            after it.
        bits: Bits of a weight; needed unless the plan brings its own.
        method: Of `reliabit.quant.methods`; `hqq` by default.
        group_size: Inputs that share a scale; the first of `GROUP_SIZES` that divides all inputs by default, and whole
            rows where none does.

    Returns:
        What was converted: exactly the modules that the plan resolves to.

    Raises:
        ReliabitError: Neither bits nor a plan, or both; a rule that matches nothing, a module named twice or quantized
            already, a NaN or infinite weight, a group size that does not divide the inputs, unsupported bits, a weight
            shared otherwise than by embeddings and head, statistics that are not this model's, or a method that learns
            from inputs without any, outside the decoder, or from inputs that say nothing.

    Example:
        >>> from reliabit.quant.plan import Rule
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
        >>> report = quantize_model(model, Plan((Rule(Scheme(bits=4), components=("lm_head",)),)))
        >>> report.names, report.effective_bits, type(model["lm_head"]).__name__
        (('lm_head',), 4.5, 'QuantLinear')
        >>> mlp = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
        >>> quantize_model(mlp, bits=3).names
        ('0', '2')
    """
    plan = _plan_of(model, plan, bits=bits, method=method, group_size=group_size)
    schemes = check_schemes(model, plan)
    check_inputs(schemes, inputs)
    before = set(packed_modules(model))
    scales = () if calibration is None else tuple(scale_model(model, schemes, calibration))
    if any(len(_owners(model, _weight_of(model.get_submodule(name), name))) > 1 for name in schemes):
        say_untied(model)
    done = {} if inputs is None else _convert_decoder(model, schemes, inputs)
    done |= {name: convert(model, name, scheme) for name, scheme in schemes.items() if name not in done}
    report = ConversionReport(tuple(done[name] for name in schemes), scales)
    converted = set(packed_modules(model)) - before
    if converted != set(schemes):
        raise RuntimeError(f"converted {sorted(converted ^ set(schemes))} against the plan")
    if hasattr(model, "save_pretrained"):
        from reliabit.quant.plugin import attach

        attach(cast("PreTrainedModel", model), scheme_records(model, schemes))
    return report


def _convert_decoder(
    model: nn.Module, schemes: Mapping[str, Scheme], inputs: InputCalibration
) -> dict[str, ConvertedModule]:
    """Convert decoder layers up to the last with a method that learns from their inputs."""
    if not any(learns_inputs(scheme) for scheme in schemes.values()):
        return {}
    decoder = ResidentDecoder(model, inputs.path)
    prefix = QuantizedPrefix(schemes, inputs, first=[decoder.inputs(batch) for batch in inputs.batches])
    done: dict[str, ConvertedModule] = {}

    def quantize(name: str, moments: InputMoments | None) -> None:
        done[name] = convert(model, name, schemes[name], moments)

    for index in range(prefix.last + 1):
        with decoder.layer(index) as layer:
            prefix.quantize_layer(layer, index, quantize)
    return done


def _plan_of(
    model: nn.Module,
    plan: Plan | Sequence[Mapping[str, Any]] | None,
    *,
    bits: int | None,
    method: str | None,
    group_size: int | None,
) -> Plan:
    """The plan that the arguments of `quantize_model` describe."""
    given = {"bits": bits, "method": method, "group_size": group_size}
    told: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(plan, Plan):
        if told:
            raise ReliabitError(f"the plan says how each module is quantized; leave out {' and '.join(told)}")
        return plan
    if plan is not None:
        return plan_from_config(plan, defaults=told)
    if bits is None:
        raise ReliabitError(
            f"say to how many bits: bits={', '.join(map(str, BITS[:-1]))} or {BITS[-1]}, or give a plan"
        )
    modules = quantizable_modules(model)
    rules = default_plan(Scheme()).rules
    if not any(component_of(name) in rules[0].components for name in modules):
        rules = (Rule(Scheme(), pattern=f"^(?:{'|'.join(map(re.escape, _body(model)))})$"),)
    named = resolve(Plan(rules), modules)
    told.setdefault("group_size", _group_size([model.get_submodule(name) for name in named]))
    return Plan(tuple(replace(rule, scheme=replace(rule.scheme, **told)) for rule in rules))


def _body(model: nn.Module) -> list[str]:
    """The linear layers of a model but its head."""
    head = cast("PreTrainedModel", model).get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | PackedWeight) and module is not head
    ]
    if not found:
        raise ReliabitError(f"a {type(model).__name__} has no linear layers that could be quantized")
    return found


def _group_size(modules: Sequence[nn.Module]) -> int | None:
    """The first of the group sizes that divides all inputs; None, whole rows, where none does."""
    widths = [
        module.columns if isinstance(module, PackedWeight) else int(cast("nn.Linear", module).in_features)
        for module in modules
    ]
    return next((size for size in GROUP_SIZES if not any(width % size for width in widths)), None)


def check_schemes(model: nn.Module, plan: Plan) -> dict[str, Scheme]:
    """Resolve a plan for a model, and refuse what `quantize_model` refuses but, on the meta device, values."""
    schemes = resolve(plan, quantizable_modules(model))
    for name, scheme in schemes.items():
        _check_module(model, name, scheme)
    return schemes


def scheme_records(model: nn.Module, schemes: Mapping[str, Scheme]) -> list[dict[str, Any]]:
    """What `config.json` says of quantized modules: each method and layout once, with the modules it holds for."""
    packed = packed_modules(model)
    records: dict[tuple[Scheme, Layout], list[str]] = {}
    for name, scheme in schemes.items():
        records.setdefault((scheme, packed[name].layout), []).append(name)
    return [{**scheme.record(), **asdict(layout), "modules": names} for (scheme, layout), names in records.items()]


def quantizable_modules(model: nn.Module) -> list[str]:
    """Names of the modules that a plan can name, quantized ones included.

    These are linear layers and the token embeddings; a vision tower's embeddings are of positions, a few thousand
    weights that are added to every patch.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | PackedWeight)
        or (isinstance(module, nn.Embedding) and component_of(name) == "embeddings")
    ]


def packed_modules(model: nn.Module) -> dict[str, PackedWeight]:
    """The quantized modules of a model by name, in its order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedWeight)}


def _check_module(model: nn.Module, name: str, scheme: Scheme) -> None:
    module = model.get_submodule(name)
    if isinstance(module, PackedWeight):
        raise ReliabitError(f"{name} is quantized already, to {module.layout.bits} bits")
    weight = _weight_of(module, name)
    quantizer_of(scheme, in_features=weight.shape[1], name=name)
    owners = _owners(model, weight)
    if len(owners) > 1 and not all(component_of(owner) in TIED for owner in owners):
        raise ReliabitError(f"{name} shares its weight with {sorted({*owners} - {name})}; untie it first")
    if not weight.is_meta:
        check_finite(weight, name=name)


def _owners(model: nn.Module, weight: Tensor) -> list[str]:
    """The modules that a weight belongs to."""
    found = (name for name, one in model.named_parameters(remove_duplicate=False) if one is weight)
    return [name.rpartition(".")[0] for name in found]


def say_untied(model: nn.Module) -> None:
    """Let a model's configuration say that its embeddings and its head are two matrices, so that both are saved."""
    if not hasattr(model, "get_expanded_tied_weights_keys"):
        return
    pretrained = cast("PreTrainedModel", model)
    for config in (pretrained.config, pretrained.config.get_text_config()):
        config.tie_word_embeddings = False
    pretrained.all_tied_weights_keys = pretrained.get_expanded_tied_weights_keys(all_submodels=True)


def _weight_of(module: nn.Module, name: str) -> Tensor:
    if type(module) not in (nn.Linear, nn.Embedding):
        raise ReliabitError(f"{name} is a {type(module).__name__}; only plain linear layers and embeddings quantize")
    weight: Tensor = module.get_parameter("weight")
    return weight


def convert(model: nn.Module, name: str, scheme: Scheme, inputs: InputMoments | None = None) -> ConvertedModule:
    """Put a quantized module in the place of a plain one; `inputs` are for a method that learns from them."""
    module = model.get_submodule(name)
    weight = _weight_of(module, name).detach()
    quantized = quantize_weight(weight, **scheme.arguments(), name=name, inputs=inputs)
    if isinstance(module, nn.Embedding):
        packed: PackedWeight = QuantEmbedding.from_embedding(module, quantized)
    else:
        packed = QuantLinear.from_linear(module, quantized)  # type: ignore[arg-type]
    model.set_submodule(name, packed)
    return ConvertedModule(name, scheme, weight.numel(), packed.stored_bytes, _relative_error(weight, quantized))


def _relative_error(weight: Tensor, quantized: QuantizedWeight) -> float:
    error = magnitude = 0.0
    for rows in row_chunks(weight.shape[0], weight.shape[1], weight.device):
        exact = weight[rows].float()
        decoded = dequantize(quantized.codes[rows], quantized.scale[rows], quantized.zero[rows])
        error += float((decoded - exact).abs_().sum())
        magnitude += float(exact.abs().sum())
    return error / max(magnitude, 1e-30)
