"""What a model takes: bytes on disk, bytes in memory, bits a weight."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reliabit.quant.convert import packed_modules
from reliabit.quant.linear import QuantLinear


@dataclass(frozen=True)
class Size:
    """The tell-tale numbers of a model, quantized or not.

    Attributes:
        weights: How many weights it has, a quantized one counted as one.
        stored_bytes: Bytes of the tensors that its checkpoint holds.
        resident_bytes: Bytes of all tensors it keeps in memory, those of the kernels that were chosen (`kernels_of`)
            among them.
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
    buffers = {id(buffer) for module in packed.values() for buffer in module.buffers()}
    plain = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values() if id(tensor) not in buffers}
    quantized_bytes = sum(buffer.nbytes for module in packed.values() for buffer in _stored_buffers(module))
    quantized_weights = sum(module.rows * module.columns for module in packed.values())
    parameters = sum(tensor.numel() for tensor in plain.values())
    return Size(
        weights=parameters + quantized_weights,
        stored_bytes=quantized_bytes + sum(_stored_bytes(tensor, stored_dtype) for tensor in plain.values()),
        resident_bytes=_resident_bytes(model),
        quantized_weights=quantized_weights,
        quantized_bytes=quantized_bytes,
    )


def _stored_buffers(module: nn.Module) -> list[Tensor]:
    return [tensor for name, tensor in module.state_dict().items() if name.startswith("weight_")]


def _stored_bytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * dtype.itemsize if dtype is not None and tensor.is_floating_point() else tensor.nbytes


def _resident_bytes(model: nn.Module) -> int:
    """Bytes of the memory under all parameters and buffers, each block of memory counted once."""
    blocks = {_block(tensor) for tensor in (*model.parameters(), *model.buffers(), *_kernel_tensors(model))}
    return sum(size for _, size in blocks)


def _block(tensor: Tensor) -> tuple[int, int]:
    """What tells a block of memory from others, and its size; on the meta device each tensor is its own."""
    if tensor.is_meta:
        return id(tensor), tensor.nbytes
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def _kernel_tensors(model: nn.Module) -> list[Tensor]:
    """What kernels keep beside the packed codes."""
    layers = (module for module in model.modules() if isinstance(module, QuantLinear))
    return [tensor for layer in layers for tensor in layer.kept_tensors]
