"""Export to compressed-tensors' `pack-quantized`, which transformers reads at all widths that are written here.

Serving engines load fewer: which does what, on which device, is in `reliabit.quant.loadable`. A float zero has no place
in the format, and rounding one undoes what HQQ gained: a model is quantized for export, with `exportable_plan`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.quant.checkpoint_io import copy_processor
from reliabit.quant.convert import packed_modules
from reliabit.quant.grid import Layout
from reliabit.quant.layers import QuantLinear
from reliabit.quant.loadable import TRANSFORMERS
from reliabit.quant.module_names import target_patterns
from reliabit.quant.packed import PackedWeight, pack, packed_width
from reliabit.quant.plan import Plan
from reliabit.quant.record import ZeroKind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORMAT = "pack-quantized"
_WHOLE_ZERO_BITS = 4
"""Where whole zeros are chosen: all engines load them at 4 bits, at 8 hardly one does."""

_WORD_BYTES = 4


def exportable_plan(plan: Plan) -> Plan:
    """The same plan with grids that can be exported.

    Float zeros become whole ones at 4 bits and symmetric grids at the other widths, or everywhere where the plan has
    several layouts (whole zeros are exported with one alone), and are solved anew when the plan is carried out. Scales
    are bfloat16, which the format's readers turn them into anyway: with it, the weights of a reader that computes in
    bfloat16 are those of the exported model, bit for bit.

    Example:
        >>> from reliabit.quant.plan import Scheme, default_plan
        >>> exportable_plan(default_plan(Scheme(bits=4))).rules[0].scheme.zero
        'integer'
    """
    rules, layouts = [], {(rule.scheme.bits, rule.scheme.group_size) for rule in plan.rules}
    for rule in plan.rules:
        scheme = replace(rule.scheme, metadata="bfloat16")
        if scheme.zero == "float":
            zero: ZeroKind = "integer" if layouts == {(_WHOLE_ZERO_BITS, scheme.group_size)} else "symmetric"
            scheme = replace(scheme, zero=zero, solver="chunked", p_norm=None)
        rules.append(replace(rule, scheme=scheme))
    return Plan(tuple(rules))


def export_compressed_tensors(model: "PreTrainedModel", folder: Path, *, processor_from: Path | None = None) -> None:
    """Write a quantized model as a compressed-tensors checkpoint folder, whole or not at all.

    Args:
        model: Quantized after an `exportable_plan`; scales of another type than bfloat16 are written as they are, and
            a reader that computes in bfloat16 rounds them.
        folder: Where to.
        processor_from: A checkpoint folder whose other files go along.

    Raises:
        ReliabitError: Nothing is quantized, a module cannot be exported (it is named), or several layouts with whole
            zeros.
    """
    packed = packed_modules(model)
    if not packed:
        raise ReliabitError("nothing in this model is quantized, so there is nothing to export")
    for name, module in packed.items():
        _check_exportable(name, module)
    if len({module.layout for module in packed.values()}) > 1 and _has_whole_zeros(packed):
        # The dequantizing reader of transformers 5.23 takes the first group's layout for all modules.
        raise ReliabitError("whole zeros are exported with one layout for all modules only; use symmetric grids")
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        if owner not in packed or leaf == "bias":
            tensors[name] = tensor
        elif leaf == "weight_codes":
            tensors.update({f"{owner}.{key}": value for key, value in _exported_tensors(packed[owner]).items()})
    with staged_folder(folder) as staging, _described_as(model, quantization_config(model, packed)):
        if processor_from is not None:
            copy_processor(processor_from, staging)
        model.save_pretrained(staging, state_dict=tensors)


def _exported_tensors(module: PackedWeight) -> dict[str, Tensor]:
    """The tensors of one packed layer in the format.

    Codes are packed along the inputs, as here; zeros along the outputs. Both in rows of whole 32-bit words.

    Returns:
        `weight_packed` int32 `[rows, words]`, `weight_scale` `[rows, groups]`, `weight_shape` int64 `[2]` and, for
        whole zeros, `weight_zero_point` int32 `[words, groups]`.
    """
    bits = module.layout.bits
    tensors = {
        "weight_packed": _words(module.weight_codes, bits, module.columns),
        "weight_scale": module.weight_scale,
        "weight_shape": torch.tensor([module.rows, module.columns]),
    }
    if module.layout.zero == "integer":
        by_group = pack(module.zeros().to(torch.uint8).T.contiguous(), bits)
        tensors["weight_zero_point"] = _words(by_group, bits, module.rows).T.contiguous()
    return tensors


def quantization_config(model: "PreTrainedModel", packed: Mapping[str, PackedWeight]) -> dict[str, Any]:
    """The format's description in `config.json`: one group of targets for each layout, and what is left alone."""
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | QuantLinear)]
    by_layout: dict[Layout, list[str]] = {}
    for name, module in packed.items():
        by_layout.setdefault(module.layout, []).append(name)
    groups = {
        f"group_{number}": {"targets": target_patterns(names, linears), "format": FORMAT, "weights": _weights(layout)}
        for number, (layout, names) in enumerate(by_layout.items())
    }
    untouched = [name for name in linears if name not in packed]
    config: dict[str, Any] = {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "ignore": target_patterns(untouched, linears),
        "config_groups": groups,
    }
    if _has_whole_zeros(packed):
        # compressed-tensors 0.20 makes room for unpacked zeros when it loads packed ones; told to dequantize, it
        # unpacks them first.
        config["dequantize"] = True
    return config


def _has_whole_zeros(packed: Mapping[str, PackedWeight]) -> bool:
    return any(module.layout.zero == "integer" for module in packed.values())


def _weights(layout: Layout) -> dict[str, Any]:
    return {
        "num_bits": layout.bits,
        "type": "int",
        "symmetric": layout.zero == "symmetric",
        "strategy": "channel" if layout.group_size is None else "group",
        "group_size": layout.group_size,
        "dynamic": False,
    }


def _check_exportable(name: str, module: PackedWeight) -> None:
    layout = module.layout
    if not isinstance(module, QuantLinear):
        raise ReliabitError(f"{name} is a quantized embedding, which compressed-tensors readers do not take")
    if layout.zero == "float":
        raise ReliabitError(f"{name} has float zeros, which cannot be exported; quantize it anew with exportable_plan")
    choices = TRANSFORMERS.grids[layout.zero]
    if layout.bits not in choices:
        raise ReliabitError(f"{name}: {layout.zero} grids are exported at {choices} bits, not at {layout.bits}")


def _words(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Rows of packed bytes as rows of 32-bit words: as many as hold the codes."""
    words = -(-columns * bits // (8 * _WORD_BYTES))
    padded = torch.nn.functional.pad(packed, (0, max(0, words * _WORD_BYTES - packed_width(columns, bits))))
    # A row of its own may keep a stride of one byte when it is made contiguous; a clone does not.
    return padded[:, : words * _WORD_BYTES].clone(memory_format=torch.contiguous_format).view(torch.int32)


@contextmanager
def _described_as(model: "PreTrainedModel", config: dict[str, Any]) -> Iterator[None]:
    """Let `save_pretrained` take the model for one of another format, for the length of a block."""
    own_config, own_quantizer = model.config.quantization_config, model.hf_quantizer
    model.config.quantization_config, model.hf_quantizer = config, None
    try:
        yield
    finally:
        model.config.quantization_config, model.hf_quantizer = own_config, own_quantizer
