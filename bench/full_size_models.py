"""Qwen2-VL-7B and Idefics3-8B from their published sizes, with random weights: whole, cut short, or tiny.

Sizes are those of the published configurations; widths stay whatever the number of layers, so that what is measured of
a layer is what a layer of the whole model takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

Size = Literal["full", "layers", "tiny"]
DECODER_LAYERS = {"qwen2_vl_7b": "model.language_model.layers", "idefics3_8b": "model.text_model.layers"}
NAMES = tuple(DECODER_LAYERS)
STANDARD_DEVIATION = 0.02


@dataclass(frozen=True)
class Depth:
    """How many layers are kept.

    Attributes:
        decoder: Of the decoder.
        vision: Of the vision tower.
    """

    decoder: int
    vision: int


WHOLE = {"qwen2_vl_7b": Depth(28, 32), "idefics3_8b": Depth(32, 27)}
SHORT = Depth(2, 1)


def full_size_config(name: str, depth: Depth | None = None) -> Any:
    """The configuration of a full-size model.

    Args:
        name: `qwen2_vl_7b` or `idefics3_8b`.
        depth: Its layers; None is all.
    """
    return {"qwen2_vl_7b": _qwen2_vl, "idefics3_8b": _idefics3}[name](depth or WHOLE[name])


def tiny_config(name: str) -> Any:
    """The configuration of the small reference model of the same family."""
    from transformers import AutoConfig

    folder = (
        Path(__file__).parents[1] / "models" / {"qwen2_vl_7b": "qwen2_vl_tiny", "idefics3_8b": "idefics3_tiny"}[name]
    )
    return AutoConfig.from_pretrained(folder, local_files_only=True)


def config_of(name: str, size: Size) -> Any:
    """The configuration of a model at one of the sizes that are measured."""
    if size == "tiny":
        return tiny_config(name)
    return full_size_config(name, SHORT if size == "layers" else None)


@torch.no_grad()
def fill(model: nn.Module, device: torch.device, *, path: str, visit: Callable[[str], None]) -> None:
    """Give a skeleton random weights on a device, a decoder layer at a time.

    Args:
        model: The skeleton; its parameters are on the meta device.
        device: Where to.
        path: The dotted path of the decoder layers.
        visit: Called with the name of each decoder layer once it has its weights, before anything else gets any.
    """
    generator = torch.Generator(device).manual_seed(0)
    for index, layer in enumerate(model.get_submodule(path).children()):
        fill_layer(layer, device, generator)
        visit(f"{path}.{index}")
    filled: dict[int, nn.Parameter] = {}
    for name, module in model.named_modules():
        if not name.startswith(f"{path}."):
            _fill_own(module, device, generator, filled)
            for leaf, buffer in module.named_buffers(recurse=False):
                module._buffers[leaf] = buffer.to(device)


def fill_layer(layer: nn.Module, device: torch.device, generator: torch.Generator) -> None:
    """Give one layer random weights."""
    for module in layer.modules():
        _fill_own(module, device, generator, {})


def _fill_own(
    module: nn.Module, device: torch.device, generator: torch.Generator, filled: dict[int, nn.Parameter]
) -> None:
    for leaf, parameter in module.named_parameters(recurse=False):
        # Embeddings and output share a weight in some models.
        if id(parameter) not in filled:
            filled[id(parameter)] = nn.Parameter(_random(parameter, device, generator), requires_grad=False)
        module._parameters[leaf] = filled[id(parameter)]


def write_random_checkpoint(config: Any, folder: Path, *, shard_bytes: int = 2**28) -> None:
    """Write a checkpoint of random weights in bfloat16 without ever holding more than a shard of it."""
    from tempfile import TemporaryDirectory

    from reliabit.quant.checkpoint_io import skeleton
    from reliabit.quant.streaming.written_shards import Finished, ShardWriter, assemble

    tensors = skeleton(config, torch.bfloat16).state_dict()
    generator = torch.Generator().manual_seed(0)
    folder.mkdir()
    with TemporaryDirectory(dir=folder.parent) as parts:
        writer = ShardWriter(Path(parts), list(tensors), shard_bytes=shard_bytes)
        for name, tensor in tensors.items():
            writer.add(Finished(name), {name: _random(tensor, torch.device("cpu"), generator)})
        assemble(writer.shards(), folder)
    config.save_pretrained(folder)


def _random(like: torch.Tensor, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    """Normal matrices; ones for norms, as they begin."""
    if like.ndim == 1:
        return torch.ones(like.shape, dtype=like.dtype, device=device)
    value = torch.empty(like.shape, dtype=like.dtype, device=device)
    return value.normal_(std=STANDARD_DEVIATION, generator=generator)


def _qwen2_vl(depth: Depth) -> Any:
    from transformers import Qwen2VLConfig

    return Qwen2VLConfig(
        text_config={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": depth.decoder,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": depth.vision,
            "embed_dim": 1280,
            "hidden_size": 3584,
            "num_heads": 16,
            "mlp_ratio": 4,
        },
        tie_word_embeddings=False,
    )


def _idefics3(depth: Depth) -> Any:
    from transformers import Idefics3Config

    return Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": 128259,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": depth.decoder,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
        vision_config={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": depth.vision,
            "num_attention_heads": 16,
            "image_size": 364,
            "patch_size": 14,
        },
        scale_factor=2,
        tie_word_embeddings=False,
    )
