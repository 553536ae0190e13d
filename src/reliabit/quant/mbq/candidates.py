"""The scales that a search tries, and the weights that they lead to."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from reliabit.quant.chunks import row_chunks
from reliabit.quant.grid import dequantize
from reliabit.quant.plan import Scheme
from reliabit.quant.solve import quantize_weight

SMALLEST = 1e-4
LARGEST_STACK = 2**20
"""Weights that are rounded at once, at most: small layers are rounded for many candidates in one operation."""


def candidate_scales(magnitude: Tensor, ratios: int) -> Tensor:
    """The scales of each exponent (MBQ's and AWQ's grid), the first of which scales nothing.

    Args:
        magnitude: Mean magnitude of each channel, `[channels]`.
        ratios: How many exponents, `0, 1 / ratios, ...`.

    Returns:
        `magnitude ** exponent`, divided by the geometric mean of its extremes, float32 `[ratios, channels]`.

    Example:
        >>> candidate_scales(torch.tensor([1.0, 16.0]), 2).tolist()
        [[1.0, 1.0], [0.5, 2.0]]
    """
    exponents = torch.arange(ratios, device=magnitude.device)[:, None] / ratios
    scales = magnitude.float().clamp_min(0).pow(exponents).clamp_min(SMALLEST)
    middle: Tensor = (scales.amax(dim=1, keepdim=True) * scales.amin(dim=1, keepdim=True)).sqrt()
    return scales / middle


def rounded_weights(weight: Tensor, scales: Tensor, scheme: Scheme | None) -> Iterator[Tensor]:
    """What is left of a weight that is scaled, quantized and scaled back, one candidate after the other.

    Args:
        weight: `[out_features, in_features]`.
        scales: `[candidates, in_features]`.
        scheme: How it is quantized; None if it stays as it is.

    Yields:
        For each candidate the weight, float32 `[out_features, in_features]`.

    Example:
        >>> scheme = Scheme("rtn", bits=2, group_size=None)
        >>> next(rounded_weights(torch.tensor([[0.0, 0.9, 3.0]]), torch.ones(1, 3), scheme))
        tensor([[0., 1., 3.]])
    """
    exact = weight.float()
    if scheme is None:
        yield from exact.expand(len(scales), -1, -1)
        return
    step = max(1, LARGEST_STACK // exact.numel())
    for part in torch.split(scales, step):
        stack = (exact * part[:, None]).flatten(0, 1)
        quantized = quantize_weight(stack, **scheme.options(), name="a scaled weight")
        for rows in row_chunks(stack.shape[0], stack.shape[1], stack.device):
            stack[rows] = dequantize(quantized.codes[rows], quantized.scale[rows], quantized.zero[rows])
        yield from stack.reshape(len(part), *exact.shape).div_(part[:, None])


def nearest(schemes: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """The same grids, rounded to nearest: quick enough to try many candidates.

    Example:
        >>> nearest({"mlp.up_proj": Scheme("hqq_plus", bits=3)})["mlp.up_proj"].method
        'rtn'
    """
    quick = {"method": "rtn", "solver": "chunked", "p_norm": None, "iterations": None}
    return {path: replace(scheme, **quick) for path, scheme in schemes.items()}  # type: ignore[arg-type]
