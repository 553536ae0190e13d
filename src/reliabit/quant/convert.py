"""Quantize a model in memory: `quantize_model`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.grid import Layout, QuantizedWeight, dequantize, row_chunks
from reliabit.quant.layers import QuantEmbedding, QuantLinear
from reliabit.quant.mbq.scaling import Calibration, scale_model
from reliabit.quant.mbq.search import GroupScale
from reliabit.quant.module_names import component_of
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Plan, Scheme, resolve
from reliabit.quant.quantizer import check_finite, quantize_weight, quantizer_of

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


@torch.no_grad()
def quantize_model(model: nn.Module, plan: Plan, calibration: Calibration | None = None) -> ConversionReport:
    """Quantize, in place, the modules that a plan names.

    Everything that can be refused is refused before the first module is changed.

    Args:
        model: A model whose linear layers and embeddings carry the names that `component_of` knows.
        plan: Which modules, and how.
        calibration: Statistics and a scale search (MBQ, AWQ); scales are folded into the decoder before it is
            quantized. None quantizes the weights as they are.

    Returns:
        What was converted: exactly the modules that the plan resolves to.

    Raises:
        ReliabitError: A rule that matches nothing, a module named twice or quantized already, a NaN or infinite
            weight, a group size that does not divide the inputs, unsupported bits, a shared weight, or statistics that
            are not this model's.

    Example:
        >>> from reliabit.quant.plan import Rule
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
        >>> report = quantize_model(model, Plan((Rule(Scheme(bits=4), components=("lm_head",)),)))
        >>> report.names, report.effective_bits, type(model["lm_head"]).__name__
        (('lm_head',), 4.5, 'QuantLinear')
    """
    schemes = check_schemes(model, plan)
    before = set(packed_modules(model))
    scales = () if calibration is None else tuple(scale_model(model, schemes, calibration))
    report = ConversionReport(tuple(convert(model, name, scheme) for name, scheme in schemes.items()), scales)
    converted = set(packed_modules(model)) - before
    if converted != set(schemes):
        raise RuntimeError(f"converted {sorted(converted ^ set(schemes))} against the plan")
    if hasattr(model, "save_pretrained"):
        from reliabit.quant.plugin import attach

        attach(cast("PreTrainedModel", model), scheme_records(model, schemes))
    return report


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
    owners = [other for other, found in model.named_parameters(remove_duplicate=False) if found is weight]
    if len(owners) > 1:
        raise ReliabitError(f"{name} shares its weight with {sorted(set(owners) - {f'{name}.weight'})}; untie it first")
    if not weight.is_meta:
        check_finite(weight, name=name)


def _weight_of(module: nn.Module, name: str) -> Tensor:
    if type(module) not in (nn.Linear, nn.Embedding):
        raise ReliabitError(f"{name} is a {type(module).__name__}; only plain linear layers and embeddings quantize")
    weight: Tensor = module.get_parameter("weight")
    return weight


def convert(model: nn.Module, name: str, scheme: Scheme) -> ConvertedModule:
    """Put a quantized module in the place of a plain one."""
    module = model.get_submodule(name)
    weight = _weight_of(module, name).detach()
    quantized = quantize_weight(weight, **scheme.arguments(), name=name)
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
