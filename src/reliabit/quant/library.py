"""The library `hqq` itself, as the reference that the solvers here are compared with."""

import torch
from torch import Tensor

from reliabit.errors import ReliabitError

SUPPORTED_BITS = (1, 2, 3, 4, 5, 6, 8)


def solve_with_library(weight: Tensor, *, bits: int, group_size: int | None, name: str) -> tuple[Tensor, Tensor]:
    """Solve the whole weight with `hqq.core.quantize.Quantizer`, axis 1.

    Args:
        weight: `[out_features, in_features]`.
        bits: Bits of a code.
        group_size: Inputs a group, or None for the whole row.
        name: What the weight is called in errors.

    Returns:
        Scale and zero in float32, each `[groups, 1]`.

    Raises:
        ReliabitError: The library does not know these bits or this group size.
    """
    if bits not in SUPPORTED_BITS:
        raise ReliabitError(f"{name}: the library hqq has no {bits} bits; choose from {SUPPORTED_BITS}")
    from hqq.core.quantize import Quantizer

    _, meta = Quantizer.quantize(
        weight.float(),
        nbits=bits,
        group_size=group_size or weight.shape[1],
        axis=1,
        round_zero=bits == 4,
        bitpack=False,
        compute_dtype=torch.float32,
        device=str(weight.device),
    )
    return meta["scale"].reshape(-1, 1).clone(), meta["zero"].reshape(-1, 1).clone()
