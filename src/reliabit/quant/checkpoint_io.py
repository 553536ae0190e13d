"""Write and read quantized checkpoints: Hugging Face folders that plain `from_pretrained` loads as well."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from reliabit.errors import ReliabitError
from reliabit.files import MANIFEST, staged_folder
from reliabit.quant.checkpoint_files import CHECKSUMS, loading, verify_checkpoint
from reliabit.quant.record import check_format, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_MODEL_FILES = ("config.json", "generation_config.json", CHECKSUMS, MANIFEST)
_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth")


def save_checkpoint(model: "PreTrainedModel", folder: Path, *, processor_from: Path | None = None) -> None:
    """Write a model, quantized or not, as a checkpoint folder that appears whole or not at all.

    Args:
        model: The model; unquantized weights are written in the type they have.
        folder: Where to; a checkpoint that is there already is replaced.
        processor_from: A checkpoint folder whose other files (tokenizer, processor, chat template) go along.
    """
    with staged_folder(folder) as staging:
        if processor_from is not None:
            copy_processor(processor_from, staging)
        model.save_pretrained(staging)


def load_checkpoint(folder: Path, *, dtype: torch.dtype, **options: Any) -> "PreTrainedModel":
    """Load a checkpoint folder, quantized or not, with one clear sentence where that is impossible.

    Args:
        folder: The checkpoint.
        dtype: The type that the model computes in; packed weights keep theirs.
        options: Further arguments of `AutoModelForImageTextToText.from_pretrained`.

    Raises:
        ReliabitError: No checkpoint, one in a format that is not read here, a wrong or truncated shard, tensors that
            are missing, a file that differs from its hash where there are hashes, a newer format version.
    """
    from transformers import AutoModelForImageTextToText

    from reliabit.quant.plugin import register

    register()
    check_format(read_config(folder), folder=folder)
    if (folder / CHECKSUMS).is_file():
        verify_checkpoint(folder)
    with loading(folder, "the model"):
        loaded: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    model, found = loaded
    # transformers makes them up, with a warning only.
    missing = sorted(found["missing_keys"])
    if missing:
        raise ReliabitError(
            f"{folder} lacks {len(missing)} of the model's tensors, {missing[0]} among them; "
            "a shard is of another model or not whole"
        )
    return model


def copy_processor(source: Path, destination: Path) -> None:
    """Copy what a checkpoint folder holds beside the model: tokenizer, processor, chat template, card."""
    if not source.is_dir():
        raise ReliabitError(f"{source} is no checkpoint folder")
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in _MODEL_FILES and not file.name.endswith(_WEIGHT_SUFFIXES):
            shutil.copy2(file, destination / file.name)


def checkpoint_bytes(folder: Path) -> int:
    """Bytes of the weight files of a checkpoint folder.

    Raises:
        ReliabitError: It has none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ReliabitError(f"{folder} holds no safetensors file")
    return sum(file.stat().st_size for file in files)


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
        with loading(model, "the configuration"):
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
