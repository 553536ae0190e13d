"""What a plan makes of a model, computed from the model's config alone."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reliabit.errors import ReliabitError
from reliabit.quant.components import component_of
from reliabit.quant.convert import packed_modules, quantizable_modules
from reliabit.quant.empty import replace_by_empty
from reliabit.quant.grid import Layout
from reliabit.quant.plan import Plan, Scheme, resolve
from reliabit.quant.record import OUR_FORMAT
from reliabit.quant.size import Size, model_size
from reliabit.quant.skeleton import skeleton

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

REST = "rest"
_SAFETENSORS_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8", "int64": "I64"}


@dataclass(frozen=True)
class Part:
    """The share of one component.

    Attributes:
        weights: Weights of its linear layers and embeddings.
        stored_bytes: What they take in a checkpoint.
    """

    weights: int
    stored_bytes: int


@dataclass(frozen=True)
class Footprint:
    """What a model takes under a plan.

    Attributes:
        size: Weights, stored and resident bytes, effective bits, as `model_size` measures them. Resident bytes are
            those of the tensors alone, without what kernels keep beside the packed codes.
        file_bytes: Size of the checkpoint as one safetensors file.
        components: The share of each component; `rest` is norms, biases, convolutions and positions.
    """

    size: Size
    file_bytes: int
    components: dict[str, Part]


def footprint(
    model: "PreTrainedConfig | Path", plan: Plan | None = None, *, dtype: torch.dtype = torch.bfloat16
) -> Footprint:
    """Compute the footprint of a model, without any weights.

    Args:
        model: The model's config, or a folder that holds its `config.json`.
        plan: What is quantized; None is nothing but what the checkpoint has quantized already.
        dtype: The type of what is not.

    Raises:
        ReliabitError: No config in the folder, or a plan that does not fit the model.
    """
    empty = skeleton(model, dtype)
    layouts = _own_layouts(empty)
    if plan is not None:
        if layouts:
            raise ReliabitError(f"{model} is quantized already; set quant=none to see what it takes")
        schemes = resolve(plan, quantizable_modules(empty))
        layouts = {name: planned_layout(scheme) for name, scheme in schemes.items()}
    for name, layout in layouts.items():
        replace_by_empty(empty, name, layout)
    size = model_size(empty)
    return Footprint(size, size.stored_bytes + _header_bytes(empty), _components(empty))


def planned_layout(scheme: Scheme) -> Layout:
    """The layout a scheme gives, unless a weight needs float32 scales.

    Example:
        >>> planned_layout(Scheme(bits=3, zero="symmetric"))
        Layout(bits=3, group_size=64, zero='symmetric', metadata='float16')
    """
    values: dict[str, Any] = {"zero": scheme.zero, "metadata": scheme.metadata or "float16"}
    return Layout(scheme.bits, scheme.group_size, **values)


def _own_layouts(model: "PreTrainedModel") -> dict[str, Layout]:
    """The layouts of the modules that a checkpoint of this format says are quantized."""
    from reliabit.quant.plugin import ReliabitConfig

    record = getattr(model.config, "quantization_config", None)
    if record is None:
        return {}
    if isinstance(record, ReliabitConfig):
        return record.layouts()
    if record.get("quant_method") != OUR_FORMAT:
        raise ReliabitError(
            f"the checkpoint is in the format {record.get('quant_method')}, whose footprint is not computed; "
            "the sizes of its files tell what it stores"
        )
    return ReliabitConfig(**record).layouts()


def _components(model: nn.Module) -> dict[str, Part]:
    packed, matrices = packed_modules(model), set(quantizable_modules(model))
    weights, stored = Counter[str](), Counter[str]()
    for name, tensor in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        component = component_of(owner) if owner in matrices and leaf != "bias" else None
        stored[component or REST] += tensor.nbytes
        if owner not in packed or leaf == "bias":
            weights[component or REST] += tensor.numel()
        elif leaf == "weight_codes":
            weights[component or REST] += packed[owner].rows * packed[owner].columns
    return {component: Part(weights[component], stored[component]) for component in stored}


def _header_bytes(model: nn.Module) -> int:
    """Length of the header of a safetensors file: eight bytes, and a JSON table padded to eight."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in model.state_dict().items():
        kind = _SAFETENSORS_TYPES[str(tensor.dtype).removeprefix("torch.")]
        end = offset + tensor.nbytes
        table[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(table, separators=(",", ":")))
    return 8 + length + -length % 8
