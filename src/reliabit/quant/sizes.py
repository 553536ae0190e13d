"""What a model takes, measured in memory or computed from a plan and the model's config alone."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.checkpoint_io import skeleton
from reliabit.quant.convert import packed_modules, quantizable_modules
from reliabit.quant.grid import Layout
from reliabit.quant.layers import QuantLinear, replace_by_empty
from reliabit.quant.module_names import component_of
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Plan, resolve
from reliabit.quant.record import OUR_FORMAT

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_REST = "rest"
_SAFETENSORS_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8", "int64": "I64"}


@dataclass(frozen=True)
class Size:
    """The tell-tale numbers of a model, quantized or not.

    Attributes:
        weights: How many weights it has, a quantized one counted as one.
        stored_bytes: Bytes of the tensors that its checkpoint holds.
        resident_bytes: Bytes of all tensors it keeps in memory, those of the kernels that were chosen (`kernels_of`)
            among them, which most hold the packed codes' place.
        quantized_weights: How many weights are quantized.
        quantized_bytes: Stored bytes of those, scales and zeros included.
    """

    weights: int
    stored_bytes: int
    resident_bytes: int
    quantized_weights: int
    quantized_bytes: int

    @property
    def effective_bits(self) -> float:
        """Stored bits a weight, over the whole model."""
        return 8 * self.stored_bytes / self.weights

    @property
    def quantized_effective_bits(self) -> float | None:
        """Stored bits a quantized weight, or None where nothing is quantized."""
        return 8 * self.quantized_bytes / self.quantized_weights if self.quantized_weights else None


def model_size(model: nn.Module, *, stored_dtype: torch.dtype | None = None) -> Size:
    """Measure a model in memory.

    Args:
        model: The model.
        stored_dtype: The type that unquantized weights are stored in, where the model runs in another one.

    Returns:
        Its sizes; tensors that share memory count once.

    Example:
        >>> size = model_size(nn.Linear(64, 32, bias=False), stored_dtype=torch.bfloat16)
        >>> size.stored_bytes, size.resident_bytes, size.effective_bits
        (4096, 8192, 16.0)
    """
    packed = packed_modules(model)
    plain = {id(tensor): tensor for tensor in _plain_tensors(model)}
    quantized_bytes = sum(module.stored_bytes for module in packed.values())
    quantized_weights = sum(module.rows * module.columns for module in packed.values())
    parameters = sum(tensor.numel() for tensor in plain.values())
    return Size(
        weights=parameters + quantized_weights,
        stored_bytes=quantized_bytes + sum(_stored_bytes(tensor, stored_dtype) for tensor in plain.values()),
        resident_bytes=_resident_bytes(model),
        quantized_weights=quantized_weights,
        quantized_bytes=quantized_bytes,
    )


def _plain_tensors(model: nn.Module) -> Iterator[Tensor]:
    """What a checkpoint holds beside packed weights, whose kernels are not to pack them anew for it."""
    yield from model.parameters()
    for module in model.modules():
        if not isinstance(module, PackedWeight):
            hidden = module._non_persistent_buffers_set
            yield from (tensor for name, tensor in module.named_buffers(recurse=False) if name not in hidden)


def _stored_bytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * dtype.itemsize if dtype is not None and tensor.is_floating_point() else tensor.nbytes


def _resident_bytes(model: nn.Module) -> int:
    """Bytes under all parameters, buffers and what kernels keep, each block of memory counted once."""
    kept = [module.kept_tensors for module in model.modules() if isinstance(module, QuantLinear)]
    blocks = {_block(tensor) for tensor in chain(model.parameters(), model.buffers(), *kept)}
    return sum(size for _, size in blocks)


def _block(tensor: Tensor) -> tuple[int, int]:
    """What tells a block of memory from others, and its size; on the meta device each tensor is its own."""
    if tensor.is_meta:
        return id(tensor), tensor.nbytes
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


@dataclass(frozen=True)
class FootprintPart:
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
            those of the packed tensors; kernels for CPUs take no more, those for GPUs keep their own beside them.
        file_bytes: Size of the checkpoint as one safetensors file.
        components: The share of each component; `rest` is norms, biases, convolutions and positions.
    """

    size: Size
    file_bytes: int
    components: dict[str, FootprintPart]


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
        # float16, as `quantize_weight` takes wherever it does no harm.
        layouts = {
            name: Layout(scheme.bits, scheme.group_size, scheme.zero, scheme.metadata or "float16")
            for name, scheme in schemes.items()
        }
    for name, layout in layouts.items():
        replace_by_empty(empty, name, layout)
    size = model_size(empty)
    return Footprint(size, size.stored_bytes + _header_bytes(empty), _components(empty))


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


def _components(model: nn.Module) -> dict[str, FootprintPart]:
    packed, matrices = packed_modules(model), set(quantizable_modules(model))
    weights, stored = Counter[str](), Counter[str]()
    for name, tensor in _stored_once(model).items():
        owner, _, leaf = name.rpartition(".")
        component = component_of(owner) if owner in matrices and leaf != "bias" else None
        stored[component or _REST] += tensor.nbytes
        if owner not in packed or leaf == "bias":
            weights[component or _REST] += tensor.numel()
        elif leaf == "weight_codes":
            weights[component or _REST] += packed[owner].rows * packed[owner].columns
    return {component: FootprintPart(weights[component], stored[component]) for component in stored}


def _stored_once(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint: embeddings and head that are one matrix are stored as the embeddings."""
    tensors, first = model.state_dict(keep_vars=True), dict[int, str]()
    return {name: tensor for name, tensor in tensors.items() if first.setdefault(id(tensor), name) == name}


def _header_bytes(model: nn.Module) -> int:
    """Length of the header of a safetensors file: eight bytes, and a JSON table padded to eight."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in _stored_once(model).items():
        kind = _SAFETENSORS_TYPES[str(tensor.dtype).removeprefix("torch.")]
        end = offset + tensor.nbytes
        table[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(table, separators=(",", ":")))
    return 8 + length + -length % 8
