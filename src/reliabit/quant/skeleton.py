"""A model without weights: the modules of a checkpoint on the meta device."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from reliabit.quant.record import read_config
from reliabit.quant.said_of import said_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def skeleton(model: "PreTrainedConfig | Path", dtype: torch.dtype) -> "PreTrainedModel":
    """Build a model's modules without memory for its weights.

    Args:
        model: A configuration, or the checkpoint folder that holds one.
        dtype: The type of the weights.

    Raises:
        ReliabitError: The folder is no checkpoint, or its config.json describes no model that can be built.
    """
    from transformers import AutoConfig

    if isinstance(model, Path):
        read_config(model)
        with said_of(model, "the configuration"):
            return _built(AutoConfig.from_pretrained(model, local_files_only=True), dtype)
    return _built(model, dtype)


def _built(config: "PreTrainedConfig", dtype: torch.dtype) -> "PreTrainedModel":
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return cast("PreTrainedModel", AutoModelForImageTextToText.from_config(config, dtype=dtype))


@torch.no_grad()
def compute_buffers(model: "PreTrainedModel") -> None:
    """Give a skeleton the buffers that no checkpoint holds, such as rotary frequencies."""
    for module in model.modules():
        if module._non_persistent_buffers_set:
            module.to_empty(device="cpu", recurse=False)
            # What transformers itself calls for weights that it does not find in a checkpoint.
            model._init_weights(module)
