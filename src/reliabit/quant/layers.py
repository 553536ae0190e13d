"""Layers whose weight is kept as densely packed codes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reliabit.errors import ReliabitError
from reliabit.quant.grid import Layout, QuantizedWeight, check_layout, dequantize
from reliabit.quant.kernels import Kernel
from reliabit.quant.kernels.dispatch import choose_kernel
from reliabit.quant.packed import PackedWeight, unpack

EAGER = "eager"
"""What reports call a layer that no kernel serves: its weight is dequantized for each product, or once for several
where that takes little room (`dequantized_once`)."""

ROOM = 2**30
"""Bytes that the dequantized weights of a model may take beside the packed ones."""


class _Choice(NamedTuple):
    """The kernel that was chosen, and for which inputs.

    Attributes:
        dtype: Their type.
        device: Where they are.
        kernel: What multiplies them; None for eager.
    """

    dtype: torch.dtype
    device: torch.device
    kernel: Kernel | None


class QuantLinear(PackedWeight):
    """A linear layer with a packed weight; `y = x @ dequantize().T + bias`.

    Attributes:
        in_features: Inputs.
        out_features: Outputs.
        bias: As in `torch.nn.Linear`.

    A kernel (`reliabit.quant.kernels`) is a faster way to the same product. It is chosen here alone, however the layer
    came by its weight: when inputs of a type first come, or when `kernel_for` asks. What is never multiplied by, as
    while a checkpoint is written, pays for none. Buffers that the kernel holds in its own form are not kept beside it:
    whoever reads one, as `state_dict` does, gets it packed anew, to the last bit.
    """

    bias: nn.Parameter | None
    _choice: _Choice | None
    _keeps: bool
    _dequantized: Tensor | None

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
        self._choice = None
        self.keep(False)
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

    def hold(self, weight: QuantizedWeight) -> None:
        """Take over a quantized weight of this layer's layout; a kernel of the old one goes."""
        super().hold(weight)
        self._choice, self._dequantized = None, None

    def keep(self, keeps: bool) -> None:
        """Say whether a dequantized weight is kept for the next product; what was kept before goes."""
        self._keeps, self._dequantized = keeps, None

    def kernel_for(self, dtype: torch.dtype) -> Kernel | None:
        """The kernel for inputs of a type where the layer lies now, or None where they go the eager way.

        The layer keeps one kernel. It outlives a move to another device and back, as a loop makes them between batches,
        unless it holds the codes, and goes when a kernel for another type or device is asked for.
        """
        choice, device = self._choice, self.device
        if choice is None or (choice.dtype, choice.device) != (dtype, device):
            self.take_back()
            return self.use(None if _is_offloaded(self) else choose_kernel(self, dtype), dtype)
        return choice.kernel

    def use(self, kernel: Kernel | None, dtype: torch.dtype) -> Kernel | None:
        """Multiply inputs of a type by a certain kernel, or by none, until the layer goes elsewhere."""
        self.take_back()
        self._choice = _Choice(dtype, self.device, kernel)
        if kernel is not None:
            self.lend(kernel)
        return kernel

    def take_back(self) -> None:
        """Take buffers back from the kernel, which goes."""
        super().take_back()
        self._choice = None

    @property
    def kept_tensors(self) -> tuple[Tensor, ...]:
        """What the kernel that was chosen keeps, instead of the packed codes or beside them."""
        return () if self._choice is None or self._choice.kernel is None else self._choice.kernel.tensors

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply, `[..., in_features]` to `[..., out_features]`, in the type of the inputs."""
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        differentiated = inputs.requires_grad and torch.is_grad_enabled()
        kernel = None if differentiated else self.kernel_for(inputs.dtype)
        if kernel is not None and kernel.takes(inputs):
            product = kernel.multiply(inputs.reshape(-1, self.in_features)).reshape(*inputs.shape[:-1], -1)
            return product if bias is None else product + bias
        return nn.functional.linear(inputs, self._dequantized_for(inputs), bias)

    def _dequantized_for(self, inputs: Tensor) -> Tensor:
        kept = self._dequantized
        if kept is not None and (kept.dtype, kept.device) == (inputs.dtype, inputs.device):
            return kept
        weight = self.dequantize(inputs.dtype)
        # What accelerate brings for each pass and lets go again was not to take room in between.
        self._dequantized = weight if self._keeps and not _is_offloaded(self) else None
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantLinear":
        super()._apply(fn, recurse)
        if self.device.type == "meta":
            self._choice, self._dequantized = None, None
        return self

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self._choice, self._dequantized = None, None

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        layout: Any = self.layout
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={layout.bits}, group_size={layout.group_size}, zero={layout.zero}"
        )


def kernels_of(model: nn.Module, *, dtype: torch.dtype) -> dict[str, str]:
    """What multiplies by the weight of each quantized linear layer, `eager` where no kernel does.

    Kernels are chosen for it where they are not yet, so that what they take of memory is there to be measured.

    Args:
        model: A model where it is to compute.
        dtype: The type it computes in.

    Example:
        >>> from reliabit.quant.convert import quantize_model
        >>> from reliabit.quant.plan import Plan, Rule, Scheme
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
        >>> _ = quantize_model(model, Plan((Rule(Scheme(), components=("lm_head",)),)))
        >>> kernels_of(model, dtype=torch.float32)
        {'lm_head': 'eager'}
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QuantLinear)}
    kernels = {name: layer.kernel_for(dtype) for name, layer in layers.items()}
    return {name: EAGER if kernel is None else kernel.name for name, kernel in kernels.items()}


@contextmanager
def dequantized_once(model: nn.Module, *, dtype: torch.dtype) -> Iterator[None]:
    """Within it, layers that no kernel serves dequantize their weight once, at their first product.

    Products are the same to the last bit. Dequantizing takes about 5 ns a weight, as long as multiplying some 200
    inputs by it: for the passes of single tokens it is most of the work. A model whose weights would take more than
    `ROOM` dequantizes for each product all the same, since it was quantized to take less.

    Args:
        model: The model.
        dtype: The type of its inputs.

    Example:
        >>> from reliabit.quant.convert import quantize_model
        >>> model = nn.Sequential(nn.Linear(64, 32))
        >>> _ = quantize_model(nn.ModuleDict({"body": model}), bits=3)
        >>> inputs = torch.ones(1, 64)
        >>> with dequantized_once(model, dtype=torch.float32):
        ...     bool((model(inputs) == model(inputs)).all())
        True
    """
    layers = [module for module in model.modules() if isinstance(module, QuantLinear)]
    fits = sum(layer.in_features * layer.out_features for layer in layers) * dtype.itemsize <= ROOM
    try:
        for layer in layers:
            layer.keep(fits)
        yield
    finally:
        for layer in layers:
            layer.keep(False)


def _is_offloaded(layer: nn.Module) -> bool:
    """Whether accelerate brings the layer's weight for each pass and lets it go again; a kernel's copy would stay."""
    hook = getattr(layer, "_hf_hook", None)
    return any(getattr(one, "offload", False) for one in getattr(hook, "hooks", [hook]))


class QuantEmbedding(PackedWeight):
    """An embedding that dequantizes only the rows it looks up.

    Attributes:
        num_embeddings: Tokens.
        embedding_dim: Width.
        padding_idx: As in `torch.nn.Embedding`; it only matters in training.
        dtype: The type of what it gives.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        layout: Layout,
        *,
        dtype: torch.dtype,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Make an empty table."""
        super().__init__(num_embeddings, embedding_dim, layout, device)
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        # The only floating tensor that follows `model.to(dtype)`: it carries the type of the output.
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=device), persistent=False)

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, weight: QuantizedWeight) -> "QuantEmbedding":
        """Replace an embedding, with the quantized form of its table."""
        table = embedding.weight
        layer = cls(
            embedding.num_embeddings,
            embedding.embedding_dim,
            weight.layout,
            dtype=table.dtype,
            padding_idx=embedding.padding_idx,
            device=table.device,
        )
        layer.hold(weight)
        return layer.train(embedding.training)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the embeddings it gives."""
        like: Tensor = self.get_buffer("like")
        return like.dtype

    @property
    def weight(self) -> Tensor:
        """The dequantized table, for code that only looks at an embedding's weight."""
        return self.dequantize(self.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look tokens up, `[...]` to `[..., embedding_dim]`."""
        rows = tokens.reshape(-1)
        codes = unpack(self.weight_codes[rows], self.layout.bits, self.columns)
        found = dequantize(codes, self.weight_scale[rows], self.zeros()[rows])
        return found.to(self.dtype).reshape(*tokens.shape, self.columns)


def replace_by_empty(model: nn.Module, name: str, layout: Layout) -> None:
    """Put an empty packed layer where a checkpoint has a full one; refused where the model has no module for it.

    Example:
        >>> model = nn.ModuleDict({"lm_head": nn.Linear(64, 32, device="meta")})
        >>> replace_by_empty(model, "lm_head", Layout(bits=3, group_size=64))
        >>> model["lm_head"].weight_codes.shape
        torch.Size([32, 24])
    """
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise ReliabitError(f"{name} is to be a quantized module, and this model has no such module") from error
    if not isinstance(module, nn.Linear | nn.Embedding):
        raise ReliabitError(f"{name} is to be a quantized module, and is a {type(module).__name__} in this model")
    rows, columns = module.weight.shape
    check_layout(bits=layout.bits, group_size=layout.group_size, zero=layout.zero, in_features=columns, name=name)
    dtype, device = module.weight.dtype, module.weight.device
    empty: PackedWeight
    if isinstance(module, nn.Linear):
        empty = QuantLinear(columns, rows, layout, bias=module.bias is not None, dtype=dtype, device=device)
    else:
        empty = QuantEmbedding(rows, columns, layout, dtype=dtype, padding_idx=module.padding_idx, device=device)
    model.set_submodule(name, empty)
