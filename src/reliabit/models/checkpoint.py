"""Loading a checkpoint folder: the model, its processor, and the adapter of its family."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.models.adapter import Adapter
from reliabit.models.encoding import Encoder
from reliabit.models.idefics3 import Idefics3
from reliabit.models.qwen2_5_vl import Qwen2_5_VL
from reliabit.models.qwen2_vl import Qwen2VL
from reliabit.models.spread import Spread

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OLDEST_TRANSFORMERS = "5.21"
"""Earlier ones keep weights in another type than they were asked for, or answer without having seen the image."""

ADAPTERS: dict[str, type[Adapter]] = {adapter.model_type: adapter for adapter in (Qwen2VL, Qwen2_5_VL, Idefics3)}


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to answer, in evaluation mode, with what encodes its questions."""

    model: "PreTrainedModel"
    encoder: Encoder


def find_adapter(family: str) -> Adapter:
    """The adapter of a model family.

    Raises:
        ReliabitError: There is none.
    """
    if family not in ADAPTERS:
        raise ReliabitError(f"there is no adapter for the model family {family!r}; choose one of {', '.join(ADAPTERS)}")
    return ADAPTERS[family]()


def load_checkpoint(
    folder: Path,
    *,
    family: str,
    dtype: str,
    template: str,
    max_pixels: int | None = None,
    spread: Spread | None = None,
) -> Checkpoint:
    """Load a model and what encodes its questions.

    Args:
        folder: A Hugging Face folder; quantized ones load too.
        family: The adapter that is expected to fit.
        dtype: torch's name of the precision to compute in.
        template: The prompt around a question.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.
        spread: How the model is spread over devices, if it does not fit on one.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or wants to run code of its own; or
            transformers is too old.
    """
    import torch

    from reliabit.quant.checkpoint import load_checkpoint as load_weights

    check_transformers()
    check_checkpoint(folder, family=family)
    options = {} if spread is None else spread.options()
    model = load_weights(folder, dtype=getattr(torch, dtype), trust_remote_code=False, **options)
    encoder = load_encoder(folder, family=family, template=template, max_pixels=max_pixels)
    return Checkpoint(model=model.eval().requires_grad_(False), encoder=encoder)


def check_transformers() -> None:
    """Check the version where nothing was installed that would have: before it, wrong answers come without a word.

    Raises:
        ReliabitError: It is too old.
    """
    import transformers
    from packaging.version import Version

    if Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS):
        raise ReliabitError(
            f"transformers {transformers.__version__} is installed and answering needs {OLDEST_TRANSFORMERS} or later; "
            f"install it with pip install 'transformers>={OLDEST_TRANSFORMERS}'"
        )


def load_encoder(folder: Path, *, family: str, template: str, max_pixels: int | None = None) -> Encoder:
    """Load what encodes a model's questions, without the model.

    Args:
        folder: A Hugging Face folder.
        family: The adapter that is expected to fit.
        template: The prompt around a question.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or has no processor, or the family takes no
            limit of pixels.
    """
    adapter = find_adapter(family)
    check_folder(folder, family=family)
    try:
        processor = adapter.load_processor(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"the processor of {folder} cannot be loaded: {reason}") from error
    if max_pixels is not None:
        adapter.limit_pixels(processor, max_pixels)
    return Encoder(adapter=adapter, processor=processor, template=template)


def check_checkpoint(folder: Path, *, family: str) -> None:
    """Check that a folder is a checkpoint of a family with all its shards, before anything of it is loaded.

    Raises:
        ReliabitError: It is not.
    """
    from reliabit.quant.shards import weight_files

    check_folder(folder, family=family)
    # Names the shards that are missing.
    weight_files(folder)


def check_folder(folder: Path, *, family: str) -> None:
    """Check that a folder describes a model of a family, whatever weights it holds.

    Raises:
        ReliabitError: It is not.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ReliabitError(f"model.path={folder} is not a checkpoint folder (it has no config.json); correct the path")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReliabitError(f"{config_file} is no JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise ReliabitError(f"{config_file} describes no model; fetch it again")
    if config.get("model_type") != family:
        raise ReliabitError(
            f"the checkpoint {folder} is of the family {config.get('model_type')!r}, and model.family={family}"
        )
    if "auto_map" in config:
        raise ReliabitError(f"the checkpoint {folder} wants to run code of its own (auto_map), which is never done")
