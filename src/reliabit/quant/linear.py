"""`QuantLinear`: a linear layer whose weight is kept as densely packed codes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.quant.chunks import row_chunks
from reliabit.quant.grid import Layout, QuantizedWeight, dequantize
from reliabit.quant.kernels.base import Kernel
from reliabit.quant.packing import pack, packed_width, unpack


class PackedWeight(nn.Module):
    """Buffers of a quantized matrix, shared by the layers that hold one.

    The buffers are what a checkpoint stores: `weight_codes`, uint8 `[rows, packed_width]`; `weight_scale`,
    `[rows, groups]`; `weight_zero`, `[rows, groups]` for float zeros, one densely packed row for integer ones, and
    absent for symmetric grids.

    Attributes:
        rows: Outputs of a linear layer, tokens of an embedding.
        columns: Inputs of a linear layer, width of an embedding.
        layout: How the weight is stored.
    """

    weight_codes: Tensor
    weight_scale: Tensor
    weight_zero: Tensor | None

    def __init__(self, rows: int, columns: int, layout: Layout, device: torch.device | str | None = None) -> None:
        """Make empty buffers; `hold` or a checkpoint fills them."""
        super().__init__()
        self.rows, self.columns, self.layout = rows, columns, layout
        groups, metadata = layout.groups(columns), layout.metadata_dtype
        codes = torch.zeros((rows, packed_width(columns, layout.bits)), dtype=torch.uint8, device=device)
        self.register_buffer("weight_codes", codes)
        self.register_buffer("weight_scale", torch.zeros((rows, groups), dtype=metadata, device=device))
        zero: Tensor | None = None
        if layout.zero == "float":
            zero = torch.zeros((rows, groups), dtype=metadata, device=device)
        elif layout.zero == "integer":
            zero = torch.zeros((1, packed_width(rows * groups, layout.bits)), dtype=torch.uint8, device=device)
        self.register_buffer("weight_zero", zero)

    def hold(self, weight: QuantizedWeight) -> None:
        """Take over a quantized weight of this module's layout."""
        self.weight_codes = pack(weight.codes, self.layout.bits)
        self.weight_scale = weight.scale
        if self.layout.zero == "float":
            self.weight_zero = weight.zero
        elif self.layout.zero == "integer":
            self.weight_zero = pack(weight.zero.to(torch.uint8).reshape(1, -1), self.layout.bits)

    def quantized_weight(self) -> QuantizedWeight:
        """Unpack the codes, `[rows, columns]`, with their scales and zeros."""
        codes = unpack(self.weight_codes, self.layout.bits, self.columns)
        return QuantizedWeight(codes, self.weight_scale, self.zeros(), self.layout)

    def zeros(self) -> Tensor:
        """The zero of each group, `[rows, groups]`, in the layout's metadata type."""
        if self.weight_zero is None:
            return torch.full_like(self.weight_scale, self.layout.symmetric_zero)
        if self.layout.zero == "float":
            return self.weight_zero
        packed = unpack(self.weight_zero, self.layout.bits, self.weight_scale.numel())
        return packed.reshape(self.weight_scale.shape).to(self.layout.metadata_dtype)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes stand for, `[rows, columns]`; computed in float32, then cast."""
        weight = torch.empty((self.rows, self.columns), dtype=dtype, device=self.weight_codes.device)
        zeros = self.zeros()
        for rows in row_chunks(self.rows, self.columns, weight.device):
            codes = unpack(self.weight_codes[rows], self.layout.bits, self.columns)
            weight[rows] = dequantize(codes, self.weight_scale[rows], zeros[rows])
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedWeight":
        """Move buffers, but keep the type of scales and zeros: `model.to(torch.bfloat16)` would ruin them.

        A cast leaves integers alone, so scales and zeros pass through it as integers.
        """
        metadata = [self.weight_scale] if self.weight_zero is None else [self.weight_scale, self.weight_zero]
        protected = {id(buffer) for buffer in metadata}

        def keep_type(tensor: Tensor) -> Tensor:
            if id(tensor) not in protected or not tensor.is_floating_point():
                return fn(tensor)
            as_integers = torch.int16 if tensor.itemsize == 2 else torch.int32
            return fn(tensor.view(as_integers)).view(tensor.dtype)

        super()._apply(keep_type, recurse)  # type: ignore[no-untyped-call]
        return self


class QuantLinear(PackedWeight):
    """A linear layer with a packed weight; `y = x @ dequantize().T + bias`.

    Attributes:
        in_features: Inputs.
        out_features: Outputs.
        bias: As in `torch.nn.Linear`.
        kernel: A faster way to the same product (`reliabit.quant.kernels`), used for the inputs it takes.
    """

    bias: nn.Parameter | None
    kernel: Kernel | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        layout: Layout,
        *,
        bias: bool,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Make an empty layer; `dtype` is that of the bias."""
        super().__init__(out_features, in_features, layout, device)
        self.in_features, self.out_features = in_features, out_features
        self.kernel = None
        empty = torch.zeros(out_features, dtype=dtype, device=device) if bias else None
        self.bias = None if empty is None else nn.Parameter(empty, requires_grad=False)

    @classmethod
    def from_linear(cls, linear: nn.Linear, weight: QuantizedWeight) -> "QuantLinear":
        """Replace a linear layer, with the quantized form of its weight."""
        layer = cls(linear.in_features, linear.out_features, weight.layout, bias=False)
        layer.hold(weight)
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
        return layer.train(linear.training)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, for code that only looks at a linear layer's weight."""
        return self.dequantize(self.bias.dtype if self.bias is not None else torch.get_default_dtype())

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply, `[..., in_features]` to `[..., out_features]`, in the type of the inputs."""
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        if self.kernel is not None and self.kernel.takes(inputs):
            product = self.kernel.multiply(inputs.reshape(-1, self.in_features)).reshape(*inputs.shape[:-1], -1)
            return product if bias is None else product + bias
        return nn.functional.linear(inputs, self.dequantize(inputs.dtype), bias)

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        layout: Any = self.layout
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={layout.bits}, group_size={layout.group_size}, zero={layout.zero}"
        )
