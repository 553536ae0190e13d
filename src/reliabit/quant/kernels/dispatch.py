"""Choose a kernel for a weight, and refuse one that does not give what eager dequantization gives."""

import logging

import torch
from torch import Tensor

from reliabit.quant.grid import dequantize
from reliabit.quant.kernels import Kernel
from reliabit.quant.kernels.cpu import TILED_BATCH, Int4Pack, Int8Pack
from reliabit.quant.kernels.cuda import HALF_TYPES, GemLite, Humming
from reliabit.quant.kernels.tiles import tile_type
from reliabit.quant.packed import PackedWeight, unpack
from reliabit.quant.record import installed_version
from reliabit.threads import one_thread

KERNELS: tuple[type[Kernel], ...] = (Int8Pack, Int4Pack, Humming, GemLite)
"""In order of preference."""

TOLERANCE = 1e-2
"""Largest error of a kernel relative to eager, in the Euclidean norm; bfloat16 alone gives about 4e-3."""

LIBRARIES = ("humming-kernels", "gemlite")
"""What kernels for GPUs come from, as it is installed."""

_TESTED_ROWS = 256
_TESTED_BATCHES = (1, 16, TILED_BATCH)
_LOG = logging.getLogger(__name__)


@torch.no_grad()
def choose_kernel(weight: PackedWeight, dtype: torch.dtype) -> Kernel | None:
    """The first kernel that holds the weight for inputs of a type and passes its self-test, or None.

    Kernels only take inputs of their own type, and none takes float32: answers must not depend on the size of a batch
    there, so float32 inputs always go the eager way.

    Example:
        >>> from reliabit.quant.grid import Layout
        >>> choose_kernel(PackedWeight(32, 64, Layout(bits=4, group_size=64)), torch.float32) is None
        True
    """
    for kind in KERNELS:
        if kind.device_type != weight.weight_codes.device.type or not kind.supports(weight, dtype):
            continue
        with one_thread():
            kernel = kind.prepare(weight, dtype)
            error = self_test(kernel, weight)
        if error <= TOLERANCE:
            return kernel
        _LOG.warning(
            "kernel %s is off by %.2g relative to eager for a weight of %dx%d at %d bits, and is not used there",
            kernel.name,
            error,
            weight.rows,
            weight.columns,
            weight.layout.bits,
        )
    return None


def kernels_here(dtype: torch.dtype) -> list[str]:
    """What decides on this machine which kernels there are for inputs of a type, and how they round.

    Answers in half types differ a little between machines that differ in it; float32 goes the eager way everywhere.

    Example:
        >>> kernels_here(torch.float32)
        []
    """
    if dtype not in HALF_TYPES:
        return []
    installed = [f"{name} {found}" for name in LIBRARIES if (found := installed_version(name))]
    gpus = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    tiles = f"{str(tile_type()).removeprefix('torch.')} tiles"
    return [torch.backends.cpu.get_cpu_capability(), tiles, *gpus, *installed]


def self_test(kernel: Kernel, weight: PackedWeight) -> float:
    """How far a kernel is from eager on random inputs, over some of the weight's rows.

    Kernels take different ways for one input, for some and for many, so all are tried.

    Returns:
        The largest error relative to eager in float32, in the Euclidean norm; infinity where the kernel gives NaN.
    """
    rows = torch.arange(0, weight.rows, max(1, weight.rows // _TESTED_ROWS), device=weight.weight_codes.device)
    exact = _some_rows(weight, rows)
    return max(_error(kernel, exact, rows, batch) for batch in _TESTED_BATCHES)


def _error(kernel: Kernel, exact: Tensor, rows: Tensor, batch: int) -> float:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((batch, exact.shape[1]), generator=generator).to(kernel.dtype).to(exact.device)
    expected = inputs.float() @ exact.T
    error = (kernel.multiply(inputs)[:, rows].float() - expected).norm() / expected.norm().clamp_min(1e-30)
    return float(error) if torch.isfinite(error) else float("inf")


def _some_rows(weight: PackedWeight, rows: Tensor) -> Tensor:
    codes = unpack(weight.weight_codes[rows], weight.layout.bits, weight.columns)
    return dequantize(codes, weight.weight_scale[rows], weight.zeros()[rows])
