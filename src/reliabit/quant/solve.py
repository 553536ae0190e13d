"""From a weight to codes, scales and zeros: `quantize_weight`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.chunks import row_chunks
from reliabit.quant.constrained import search_grid
from reliabit.quant.grid import (
    METADATA_TYPES,
    Layout,
    MetadataType,
    QuantizedWeight,
    ZeroKind,
    check_layout,
    encode,
    metadata_type,
)
from reliabit.quant.hqq import solve_zero
from reliabit.quant.hqq_plus import solve_scale_and_zero
from reliabit.quant.library import solve_with_library
from reliabit.quant.rtn import min_max_grid

Method = Literal["rtn", "hqq", "hqq_plus"]
Solver = Literal["chunked", "library"]
METHODS: tuple[str, ...] = get_args(Method)
SOLVERS: tuple[str, ...] = get_args(Solver)

_GridSolver = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Request:
    """What `quantize_weight` was asked for."""

    method: Method
    zero: ZeroKind
    solver: Solver
    p_norm: float | None
    iterations: int | None
    metadata: MetadataType | None
    name: str


@torch.no_grad()
def quantize_weight(
    weight: Tensor,
    method: Method,
    bits: int,
    group_size: int | None,
    *,
    zero: ZeroKind = "float",
    solver: Solver = "chunked",
    p_norm: float | None = None,
    iterations: int | None = None,
    metadata: MetadataType | None = None,
    name: str = "weight",
) -> QuantizedWeight:
    """Quantize a weight in groups of consecutive inputs of one row.

    Beyond the weight and the result, memory is that of a chunk (`chunks`); `solver="library"` takes several
    float32 copies of the weight.

    Args:
        weight: Floating point, `[out_features, in_features]`, on any device; it is not changed.
        method: `rtn` (round to nearest), `hqq` (the published half-quadratic algorithm: the scale of the range, a
            solved zero) or `hqq_plus` (alternating least squares on scale and zero).
        bits: Bits of a code, 1 to 8.
        group_size: 16 to 256 and a divisor of `in_features`, or None for the whole row.
        zero: `float`, or the constraint `integer` or `symmetric`, under which scale and zero are solved anew.
        solver: `chunked`, or `library` for `hqq` itself (method `hqq` with float zeros only).
        p_norm: The norm of the weight error to minimise; None is 0.7 for `hqq` with float zeros, otherwise 2.
        iterations: Largest number of steps of the iterative methods; None is the method's own.
        metadata: What scales and float zeros are stored in; None is float16, or float32 where that would do harm.
        name: What the weight is called in errors.

    Returns:
        Codes, scales and zeros.

    Raises:
        ReliabitError: A NaN or infinite weight, or a request that cannot be met; the message names the weight.

    Example:
        >>> quantized = quantize_weight(torch.linspace(-1, 1, 64).reshape(2, 32), "hqq", 4, 32)
        >>> quantized.codes.shape, quantized.scale.shape
        (torch.Size([2, 32]), torch.Size([2, 1]))
        >>> bool((quantized.dequantize() - torch.linspace(-1, 1, 64).reshape(2, 32)).abs().max() < 0.04)
        True
    """
    request = _Request(method, zero, solver, p_norm, iterations, metadata, name)
    check_request(weight, request, bits=bits, group_size=group_size)
    if solver == "library":
        scale, zeros = solve_with_library(weight, bits=bits, group_size=group_size, name=name)
    else:
        scale, zeros = _solve_in_chunks(weight, _grid_solver(request, bits), group_size)
    if not (torch.isfinite(scale).all() and torch.isfinite(zeros).all()):
        raise ReliabitError(f"{name}: its weights are too large for float32 arithmetic")
    layout = Layout(bits, group_size, zero, metadata or metadata_type(scale, zeros))
    return _encode_in_chunks(weight, scale, zeros, layout)


def check_request(weight: Tensor, request: _Request, *, bits: int, group_size: int | None) -> None:
    """Refuse what cannot be quantized, before any work.

    Raises:
        ReliabitError: See `quantize_weight`.
    """
    name = request.name
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ReliabitError(f"{name}: a floating-point matrix is needed, not {weight.dtype} {tuple(weight.shape)}")
    check_layout(bits=bits, group_size=group_size, zero=request.zero, in_features=weight.shape[1], name=name)
    check_method(method=request.method, solver=request.solver, zero=request.zero, name=name)
    if request.p_norm is not None and not 0 < request.p_norm <= 4:
        raise ReliabitError(f"{name}: p_norm {request.p_norm} is outside (0, 4]")
    if request.iterations is not None and request.iterations < 1:
        raise ReliabitError(f"{name}: {request.iterations} iterations are too few; give at least 1")
    if request.metadata is not None and request.metadata not in METADATA_TYPES:
        raise ReliabitError(f"{name}: scales cannot be {request.metadata!r}; choose from {', '.join(METADATA_TYPES)}")
    check_finite(weight, name=name)


def check_method(*, method: str, solver: str, zero: str, name: str) -> None:
    """Refuse an unknown method or solver, or two that do not go together.

    Raises:
        ReliabitError: With the choices there are.
    """
    if method not in METHODS:
        raise ReliabitError(f"{name}: unknown quantization method {method!r}; choose from {', '.join(METHODS)}")
    if solver not in SOLVERS:
        raise ReliabitError(f"{name}: unknown solver {solver!r}; choose from {', '.join(SOLVERS)}")
    if solver == "library" and (method, zero) != ("hqq", "float"):
        raise ReliabitError(f"{name}: solver 'library' runs method 'hqq' with float zeros, not {method!r}, {zero!r}")


def check_finite(weight: Tensor, *, name: str) -> None:
    """Refuse NaN and infinite weights.

    Raises:
        ReliabitError: Naming the weight and how many of its values are bad.
    """
    bad = sum(_count_bad(weight[rows]) for rows in row_chunks(weight.shape[0], weight.shape[1], weight.device))
    if bad:
        raise ReliabitError(f"{name}: {bad} of {weight.numel()} weights are NaN or infinite")


def _count_bad(weights: Tensor) -> int:
    # A NaN or an infinity shows in the extremes, which are much faster to find than a mask.
    if torch.isfinite(weights.amin()) and torch.isfinite(weights.amax()):
        return 0
    return int(torch.isfinite(weights).logical_not_().sum())


def _grid_solver(request: _Request, bits: int) -> _GridSolver:
    """The solver of one chunk, `[groups, group_size]` in float32."""
    if request.method == "rtn":
        return partial(min_max_grid, bits=bits, zero=request.zero)
    given = {"p_norm": request.p_norm, "iterations": request.iterations}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if request.zero != "float":
        return partial(search_grid, bits=bits, zero=request.zero, **options)
    return partial(solve_zero if request.method == "hqq" else solve_scale_and_zero, bits=bits, **options)


def _grouped_chunks(weight: Tensor, group_length: int) -> Iterator[Tensor]:
    for rows in row_chunks(weight.shape[0], weight.shape[1], weight.device):
        yield weight[rows].float().reshape(-1, group_length)


def _solve_in_chunks(weight: Tensor, solve: _GridSolver, group_size: int | None) -> tuple[Tensor, Tensor]:
    solved = [solve(groups) for groups in _grouped_chunks(weight, group_size or weight.shape[1])]
    return torch.cat([scale for scale, _ in solved]), torch.cat([zero for _, zero in solved])


def _encode_in_chunks(weight: Tensor, scale: Tensor, zero: Tensor, layout: Layout) -> QuantizedWeight:
    """Encode with the scales and zeros as stored, so that what rounding them does to a grid is made good."""
    scale, zero = scale.to(layout.metadata_dtype), zero.to(layout.metadata_dtype)
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    group_length, start = layout.group_length(weight.shape[1]), 0
    for groups in _grouped_chunks(weight, group_length):
        part = slice(start, start + len(groups))
        encoded = encode(groups, scale=scale[part].float(), zero=zero[part].float(), bits=layout.bits)
        codes.view(-1, group_length)[part] = encoded
        start = part.stop
    shape = weight.shape[0], layout.groups(weight.shape[1])
    return QuantizedWeight(codes, scale.reshape(shape), zero.reshape(shape), layout)
