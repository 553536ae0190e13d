"""From a weight to codes, scales and zeros: `quantize_weight`, and what a quantization method is."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.quant.grid import (
    CHUNKS_TOGETHER,
    Layout,
    QuantizedWeight,
    check_layout,
    encode,
    metadata_type,
    row_chunks,
)
from reliabit.quant.input_moments import InputMoments, InputNeeds
from reliabit.quant.methods import QUANTIZERS, read_options
from reliabit.quant.plan import Scheme
from reliabit.quant.record import CHOICES, MetadataType, ZeroKind
from reliabit.threads import one_thread

_SOLVERS = ("chunked", "library")


class Quantizer:
    """A quantization method; registered by name in `reliabit.quant.methods.QUANTIZERS`.

    Most methods solve groups one by one and override `solve`; one that sees more of a weight overrides `quantize`; one
    that learns from the inputs of its layer sets `needs_inputs`, overrides `quantize_with`, and says with `input_needs`
    what it asks for beyond their second moments. Whoever quantizes a model gives it these, a layer at a time
    (`reliabit.quant.quantized_prefix`), and needs to know no more of it.

    Attributes:
        options: The dataclass of the method's own settings (`quant.options`), if it has any.
        needs_inputs: Whether it learns from the inputs of its layer; written out in the class, as `True`.
        settings: These settings, checked.
    """

    options: ClassVar[type | None] = None
    needs_inputs: ClassVar[bool] = False

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def solve(self, groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        """Scale and zero of some groups, `[groups, 1]` each, from weights in float32, `[groups, group_size]`."""
        raise NotImplementedError

    def solve_together(self, chunks: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
        """`solve` for several chunks, `[chunks, groups, group_size]`, each as if alone; `[groups, 1]` of all."""
        solved = [self.solve(groups, scheme) for groups in chunks]
        return torch.cat([scale for scale, _ in solved]), torch.cat([zero for _, zero in solved])

    def quantize(self, weight: Tensor, scheme: Scheme, *, name: str) -> QuantizedWeight:
        """Quantize a weight, `[out_features, in_features]`, whose values and scheme have been checked."""
        length = scheme.group_size or weight.shape[1]
        with one_thread():
            solved = [self.solve_together(chunks, scheme) for chunks in _chunks_together(weight, length)]
            scale, zero = torch.cat([scale for scale, _ in solved]), torch.cat([zero for _, zero in solved])
            return put_on_grid(weight, scale, zero, scheme, name=name)

    def input_needs(self) -> InputNeeds:
        """What a method that `needs_inputs` asks for of them."""
        return InputNeeds()

    def quantize_with(self, weight: Tensor, scheme: Scheme, inputs: InputMoments, *, name: str) -> QuantizedWeight:
        """Quantize a weight, as `quantize` does, knowing the moments of the layer's inputs."""
        raise NotImplementedError


@torch.no_grad()
def quantize_weight(
    weight: Tensor,
    method: str,
    bits: int,
    group_size: int | None,
    *,
    zero: ZeroKind = "float",
    solver: str = "chunked",
    p_norm: float | None = None,
    iterations: int | None = None,
    metadata: MetadataType | None = None,
    name: str = "weight",
    inputs: InputMoments | None = None,
    **options: Any,
) -> QuantizedWeight:
    """Quantize a weight in groups of consecutive inputs of one row.

    Beyond the weight and the result, memory is that of a chunk (`row_chunks`); `solver="library"` takes several
    float32 copies of the weight.

    Args:
        weight: Floating point, `[out_features, in_features]`, on any device; it is not changed.
        method: `rtn` (round to nearest), `hqq` (the published half-quadratic algorithm: the scale of the range, a
            solved zero), `hqq_plus` (alternating least squares on scale and zero), `gptq` (error compensation), or one
            that a package adds.
        bits: Bits of a code, 1 to 8.
        group_size: 16 to 256 and a divisor of `in_features`, or None for the whole row.
        zero: `float`, or the constraint `integer` or `symmetric`, under which scale and zero are solved anew.
        solver: `chunked`, or `library` for `hqq` itself (method `hqq` with float zeros only).
        p_norm: The norm of the weight error to minimise; None is 0.7 for `hqq` with float zeros, otherwise 2.
        iterations: Largest number of steps of the iterative methods; None is the method's own.
        metadata: What scales and float zeros are stored in; None is float16, or float32 where that would do harm.
        name: What the weight is called in errors.
        inputs: The moments of the layer's inputs, for a method that learns from them.
        options: The settings that the method itself declares.

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
    scheme = Scheme(method, bits, group_size, zero, solver, p_norm, iterations, metadata, options)
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ReliabitError(f"{name}: a floating-point matrix is needed, not {weight.dtype} {tuple(weight.shape)}")
    quantizer = quantizer_of(scheme, in_features=weight.shape[1], name=name)
    check_finite(weight, name=name)
    if not quantizer.needs_inputs:
        return quantizer.quantize(weight, scheme, name=name)
    if inputs is None:
        raise ReliabitError(
            f"{name}: method {method!r} learns from the inputs of its layer, and there are no calibration images; "
            "give quantize_model or quantize_checkpoint its inputs"
        )
    return quantizer.quantize_with(weight, scheme, inputs, name=name)


def quantizer_of(scheme: Scheme, *, in_features: int, name: str) -> Quantizer:
    """The method of a scheme with its settings; what `quantize_weight` refuses of weights of this width is refused."""
    check_layout(bits=scheme.bits, group_size=scheme.group_size, zero=scheme.zero, in_features=in_features, name=name)
    method, solver = scheme.method, scheme.solver
    if method not in QUANTIZERS:
        raise ReliabitError(
            f"{name}: unknown quantization method {method!r}; choose from {', '.join(QUANTIZERS.names())}"
        )
    if solver not in _SOLVERS:
        raise ReliabitError(f"{name}: unknown solver {solver!r}; choose from {', '.join(_SOLVERS)}")
    if solver == "library" and (method, scheme.zero) != ("hqq", "float"):
        raise ReliabitError(
            f"{name}: solver 'library' runs method 'hqq' with float zeros, not {method!r}, {scheme.zero!r}"
        )
    if scheme.p_norm is not None and not 0 < scheme.p_norm <= 4:
        raise ReliabitError(f"{name}: p_norm {scheme.p_norm} is outside (0, 4]")
    if scheme.iterations is not None and scheme.iterations < 1:
        raise ReliabitError(f"{name}: {scheme.iterations} iterations are too few; give at least 1")
    if scheme.metadata is not None and scheme.metadata not in CHOICES["metadata"]:
        raise ReliabitError(
            f"{name}: scales cannot be {scheme.metadata!r}; choose from {', '.join(CHOICES['metadata'])}"
        )
    settings = read_options(method, scheme.options, key=f"{name}: options")
    quantizer: Quantizer = QUANTIZERS[method](settings)
    return quantizer


def check_finite(weight: Tensor, *, name: str) -> None:
    """Refuse NaN and infinite weights, saying how many there are."""
    bad = sum(_count_bad(weight[rows]) for rows in _rows(weight))
    if bad:
        raise ReliabitError(f"{name}: {bad} of {weight.numel()} weights are NaN or infinite")


def _count_bad(weights: Tensor) -> int:
    # A NaN or an infinity shows in the extremes, which are much faster to find than a mask.
    if torch.isfinite(weights.amin()) and torch.isfinite(weights.amax()):
        return 0
    return int(torch.isfinite(weights).logical_not_().sum())


def put_on_grid(weight: Tensor, scale: Tensor, zero: Tensor, scheme: Scheme, *, name: str) -> QuantizedWeight:
    """The nearest codes of a weight on grids that were solved, `[groups, 1]` each; refused where one is not finite.

    Codes are those for the scales and zeros as they are stored, so that what rounding them does to a grid is made good.
    """
    if not (torch.isfinite(scale).all() and torch.isfinite(zero).all()):
        raise ReliabitError(f"{name}: its weights are too large for float32 arithmetic")
    layout = Layout(scheme.bits, scheme.group_size, scheme.zero, scheme.metadata or metadata_type(scale, zero))
    scale, zero = scale.to(layout.metadata_dtype), zero.to(layout.metadata_dtype)
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    group_length, start = layout.group_length(weight.shape[1]), 0
    for rows in _rows(weight):
        groups = weight[rows].float().reshape(-1, group_length)
        part = slice(start, start + len(groups))
        encoded = encode(groups, scale=scale[part].float(), zero=zero[part].float(), bits=layout.bits)
        codes.view(-1, group_length)[part] = encoded
        start = part.stop
    shape = weight.shape[0], layout.groups(weight.shape[1])
    return QuantizedWeight(codes, scale.reshape(shape), zero.reshape(shape), layout)


def _rows(weight: Tensor) -> Iterator[slice]:
    return row_chunks(weight.shape[0], weight.shape[1], weight.device, together=CHUNKS_TOGETHER)


def _chunks_together(weight: Tensor, group_length: int) -> Iterator[Tensor]:
    """Chunks of rows, `[chunks, groups, group_length]`, several of the same length at a time."""
    length = next(row_chunks(weight.shape[0], weight.shape[1], weight.device)).stop
    whole = weight.shape[0] // length * length
    for part in (weight[:whole], weight[whole:]):
        for rows in _rows(part):
            yield part[rows].float().reshape(-(-(rows.stop - rows.start) // length), -1, group_length)
