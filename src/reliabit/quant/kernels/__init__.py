"""Faster ways to multiply by a packed weight, each checked against eager dequantization before it is used."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from reliabit.quant.packed import PackedWeight


@dataclass(frozen=True)
class Kernel(ABC):
    """The weight of one layer as a kernel wants it.

    Attributes:
        name: What logs and reports call the kernel.
        device_type: The kind of device it runs on.
        dtype: The type of inputs it takes.
        tensors: The weight in the kernel's own form.
        holds: The buffers of the packed weight that this form holds: a layer with the kernel has none of its own.
    """

    name: ClassVar[str]
    device_type: ClassVar[str]
    holds: ClassVar[tuple[str, ...]] = ()
    dtype: torch.dtype
    tensors: tuple[Tensor, ...]

    @classmethod
    @abstractmethod
    def supports(cls, weight: PackedWeight, dtype: torch.dtype) -> bool:
        """Whether the kernel exists here and can hold this weight."""

    @classmethod
    @abstractmethod
    def prepare(cls, weight: PackedWeight, dtype: torch.dtype) -> Self:
        """Bring a weight into the kernel's form."""

    @abstractmethod
    def multiply(self, inputs: Tensor) -> Tensor:
        """`inputs @ weight.T` without the bias, `[batch, in_features]` to `[batch, out_features]`."""

    def buffer(self, name: str) -> Tensor | None:
        """One of the buffers that it holds, exactly as it was packed."""
        raise NotImplementedError

    def takes(self, inputs: Tensor) -> bool:
        """Whether these inputs, which want no gradient, are for the kernel: its type, its device."""
        return inputs.dtype == self.dtype and inputs.device == self.tensors[0].device
