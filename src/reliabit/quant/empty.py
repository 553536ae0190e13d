"""Empty packed layers in place of unquantized ones, for checkpoints to fill and for footprints to measure."""

from torch import nn

from reliabit.errors import ReliabitError
from reliabit.quant.embedding import QuantEmbedding
from reliabit.quant.grid import Layout, check_layout
from reliabit.quant.linear import QuantLinear
from reliabit.quant.packed import PackedWeight


def replace_by_empty(model: nn.Module, name: str, layout: Layout) -> None:
    """Put an empty packed layer where a checkpoint has a full one.

    Args:
        model: The model, on any device.
        name: The module.
        layout: How the packed layer stores its weight.

    Raises:
        ReliabitError: The model has no such module, or not one that can have this layout.

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
