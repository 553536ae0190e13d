"""Rows of weights as GGUF's blocks: quantized by llama.cpp's own rules, or the codes that a model was quantized to."""

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.quant.plan import Plan

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType
    from numpy.typing import NDArray

    from reliabit.quant.packed import PackedWeight

GROUP = 32
"""Weights that share a scale in Q4_0 and Q8_0."""

WIDTHS: Mapping[int, str] = {4: "Q4_0", 8: "Q8_0"}
"""The types whose grid is symmetric, with one float16 scale for 32 weights: what codes of ours are written as."""

_FALLBACK = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
"""What llama.cpp takes where 256 does not divide a row."""

_LIBRARIES = (("xllamacpp", "xllamacpp*.so"), ("llama_cpp", "lib/libggml-base.*"))
"""Packages that bring llama.cpp's quantizer, and where in them it lies."""


def quantize_rows(rows: "NDArray[np.float32]", kind: str) -> "tuple[NDArray[Any], GGMLQuantizationType]":
    """Quantize as llama.cpp does: by the `gguf` package, and for types that it cannot write by llama.cpp itself.

    Args:
        rows: float32, `[..., columns]`.
        kind: GGUF's name of the type. Where its blocks do not divide a row, the nearest type whose blocks do is taken.

    Returns:
        The rows, packed, and the type that they have.

    Raises:
        ReliabitError: Nothing that is installed can write that type.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    for tried in (kind, _FALLBACK.get(kind, "F16"), "F16"):
        found = GGMLQuantizationType[tried]
        if rows.shape[-1] % GGML_QUANT_SIZES[found][0] == 0:
            break
    if found.name in _FALLBACK:
        return _quantize_by_ggml(rows, found), found
    packed: NDArray[Any] = quantize(rows, found)
    return packed, found


def plan_of_blocks(plan: Plan) -> Plan:
    """The same plan on grids that GGUF has: symmetric, in groups of 32, with float16 scales; solved anew.

    Example:
        >>> from reliabit.quant.plan import Scheme, default_plan
        >>> plan_of_blocks(default_plan(Scheme(bits=4))).rules[0].scheme.group_size
        32
    """
    rules = []
    for rule in plan.rules:
        scheme = replace(rule.scheme, group_size=GROUP, metadata="float16")
        if scheme.zero != "symmetric":
            scheme = replace(scheme, zero="symmetric", solver="chunked", p_norm=None)
        rules.append(replace(rule, scheme=scheme))
    return Plan(tuple(rules))


def check_quantizer(kind: str) -> None:
    """Check that what quantizes to a type is installed.

    Raises:
        ReliabitError: It is not.
    """
    if find_spec("gguf") is None:
        raise ReliabitError("GGUF files are written with the package gguf; install it with pip install 'gguf>=0.19'")
    if kind in _FALLBACK and _library() is None:
        raise ReliabitError(
            f"{kind} is written by llama.cpp's own quantizer, and none is installed; install it with pip install "
            "xllamacpp, or choose task.gguf=q4_0"
        )


def blocks_of(weight: "PackedWeight", *, name: str) -> "tuple[NDArray[Any], GGMLQuantizationType]":
    """The codes and scales of a quantized weight as GGUF's blocks: llama.cpp dequantizes them to the same weights.

    Raises:
        ReliabitError: Its grid is none of GGUF's.
    """
    from gguf import GGMLQuantizationType

    layout = weight.layout
    if (layout.zero, layout.group_size, layout.metadata) != (
        "symmetric",
        GROUP,
        "float16",
    ) or layout.bits not in WIDTHS:
        raise ReliabitError(
            f"{name} has {layout.bits} bits, {layout.zero} zeros, groups of {layout.group_size} and {layout.metadata} "
            f"scales, and GGUF has symmetric grids of {' or '.join(map(str, WIDTHS))} bits in groups of {GROUP} with "
            "float16 scales; quantize the unquantized checkpoint with task.format=gguf"
        )
    held = weight.quantized_weight()
    codes = held.codes.numpy().reshape(-1, GROUP)
    halves = codes[:, : GROUP // 2], codes[:, GROUP // 2 :]
    packed = halves[0] | (halves[1] << 4) if layout.bits == 4 else codes ^ np.uint8(0x80)
    scales = held.scale.numpy().reshape(-1, 1).view(np.uint8)
    blocks = np.concatenate([scales, packed], axis=1).reshape(weight.rows, -1)
    return blocks, GGMLQuantizationType[WIDTHS[layout.bits]]


def _quantize_by_ggml(rows: "NDArray[np.float32]", kind: "GGMLQuantizationType") -> "NDArray[np.uint8]":
    """Let llama.cpp quantize: `ggml_quantize_chunk` of the library that a package brings."""
    from gguf import quant_shape_to_byte_shape

    check_quantizer(kind.name)
    library, source = _library(), np.ascontiguousarray(rows, dtype=np.float32)
    if library is None:
        raise TypeError("it was checked to be there")
    packed = np.zeros(quant_shape_to_byte_shape(source.shape, kind), dtype=np.uint8)
    count, columns = source.size // source.shape[-1], source.shape[-1]
    library.ggml_quantize_chunk(int(kind), source.ctypes.data, packed.ctypes.data, 0, count, columns, None)
    return packed


@cache
def _library() -> ctypes.CDLL | None:
    """llama.cpp's library, where a package brings it."""
    for package, pattern in _LIBRARIES:
        spec = find_spec(package)
        folders = () if spec is None else spec.submodule_search_locations or ()
        for file in (file for folder in folders for file in sorted(Path(folder).glob(pattern))):
            library = ctypes.CDLL(str(file))
            wide, pointer = ctypes.c_int64, ctypes.c_void_p
            library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, wide, wide, wide, pointer]
            library.ggml_quantize_chunk.restype = ctypes.c_size_t
            return library
    return None
