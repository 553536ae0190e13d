"""Choose a kernel for each layer, and refuse one that does not give what eager dequantization gives."""

import logging
from collections import Counter

import torch
from torch import Tensor, nn

from reliabit.quant.chunks import one_thread
from reliabit.quant.grid import dequantize
from reliabit.quant.kernels.base import Kernel
from reliabit.quant.kernels.cpu import Int4Pack, Int8Pack
from reliabit.quant.kernels.cuda import GemLite, Humming
from reliabit.quant.linear import QuantLinear
from reliabit.quant.packing import unpack

KERNELS: tuple[type[Kernel], ...] = (Int8Pack, Int4Pack, Humming, GemLite)
"""In order of preference."""

TOLERANCE = 1e-2
"""Largest error of a kernel relative to eager, in the Euclidean norm; bfloat16 alone gives about 4e-3."""

_TESTED_ROWS = 256
_TESTED_BATCHES = (1, 16)
_LOG = logging.getLogger(__name__)


@torch.no_grad()
def prepare_kernels(model: nn.Module, *, dtype: torch.dtype = torch.bfloat16) -> dict[str, int]:
    """Give each quantized linear layer the fastest kernel that passes its self-test.

    Kernels only take inputs of their own type, so float32 inputs, with which answers must not depend on the size of a
    batch, always go the eager way. What a kernel holds comes beside the packed codes, which saving needs.

    Args:
        model: A model with quantized layers; each one's `kernel` is set or cleared.
        dtype: The type of the inputs.

    Returns:
        How many layers got which kernel; `eager` counts those without one.

    Example:
        >>> from reliabit.quant.convert import quantize_model
        >>> from reliabit.quant.plan import Plan, Rule, Scheme
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
        >>> _ = quantize_model(model, Plan((Rule(Scheme(), components=("lm_head",)),)))
        >>> prepare_kernels(model, dtype=torch.float32)
        {'eager': 1}
    """
    chosen: Counter[str] = Counter()
    for name, layer in model.named_modules():
        if isinstance(layer, QuantLinear):
            layer.kernel = choose_kernel(layer, dtype=dtype, name=name)
            chosen[layer.kernel.name if layer.kernel else "eager"] += 1
    return dict(chosen)


def choose_kernel(layer: QuantLinear, *, dtype: torch.dtype, name: str) -> Kernel | None:
    """The first kernel that supports the layer and passes its self-test, or None."""
    for kind in KERNELS:
        if kind.device_type != layer.weight_codes.device.type or not kind.supports(layer, dtype):
            continue
        with one_thread():
            kernel = kind.prepare(layer, dtype)
            error = self_test(kernel, layer)
        if error <= TOLERANCE:
            return kernel
        _LOG.warning("%s: kernel %s is off by %.2g relative to eager and is not used", name, kernel.name, error)
    return None


def self_test(kernel: Kernel, layer: QuantLinear) -> float:
    """How far a kernel is from eager on random inputs, over some of the layer's rows.

    Kernels take different ways for one input and for many, so both are tried.

    Returns:
        The larger error relative to eager in float32, in the Euclidean norm; infinity where the kernel gives NaN.
    """
    rows = torch.arange(0, layer.rows, max(1, layer.rows // _TESTED_ROWS), device=layer.weight_codes.device)
    weight = _some_rows(layer, rows)
    return max(_error(kernel, weight, rows, batch) for batch in _TESTED_BATCHES)


def _error(kernel: Kernel, weight: Tensor, rows: Tensor, batch: int) -> float:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((batch, weight.shape[1]), generator=generator).to(kernel.dtype).to(weight.device)
    expected = inputs.float() @ weight.T
    error = (kernel.multiply(inputs)[:, rows].float() - expected).norm() / expected.norm().clamp_min(1e-30)
    return float(error) if torch.isfinite(error) else float("inf")


def _some_rows(layer: QuantLinear, rows: Tensor) -> Tensor:
    codes = unpack(layer.weight_codes[rows], layer.layout.bits, layer.columns)
    return dequantize(codes, layer.weight_scale[rows], layer.zeros()[rows])
