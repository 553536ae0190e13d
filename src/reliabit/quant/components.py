"""Which part of a multimodal model a module belongs to, told by its name."""

import re
from typing import Literal, get_args

Component = Literal["language_attention", "language_mlp", "vision", "connector", "lm_head", "embeddings"]
COMPONENTS: tuple[str, ...] = get_args(Component)

_PATTERNS: tuple[tuple[Component, re.Pattern[str]], ...] = (
    ("language_attention", re.compile(r"(?:^|\.)(?:language_model|text_model)\.layers\.\d+\.self_attn(?:\.|$)")),
    ("language_mlp", re.compile(r"(?:^|\.)(?:language_model|text_model)\.layers\.\d+\.mlp(?:\.|$)")),
    ("embeddings", re.compile(r"(?:^|\.)(?:language_model|text_model)\.embed_tokens$")),
    # Qwen2-VL keeps its connector inside the vision tower, so the connector is looked for first.
    ("connector", re.compile(r"(?:^|\.)(?:connector|multi_modal_projector|visual\.merger)(?:\.|$)")),
    ("vision", re.compile(r"(?:^|\.)(?:visual|vision_model|vision_tower)(?:\.|$)")),
    ("lm_head", re.compile(r"(?:^|\.)lm_head$")),
)
_LAYER = re.compile(r"\.(?:layers|blocks)\.(\d+)(?:\.|$)")


def component_of(name: str) -> Component | None:
    """The component of a module of Qwen2-VL, Idefics3 or a model built like them.

    The patterns are anchored to the language model: vision blocks have modules called `mlp` and `self_attn` too.

    Args:
        name: The module's dotted name.

    Returns:
        The component, or None for what belongs to none (norms, rotary embeddings, containers).

    Example:
        >>> component_of("model.language_model.layers.3.self_attn.q_proj")
        'language_attention'
        >>> component_of("model.visual.merger.mlp.0"), component_of("model.vision_model.encoder.layers.0.mlp.fc1")
        ('connector', 'vision')
        >>> component_of("model.language_model.norm") is None
        True
    """
    return next((component for component, pattern in _PATTERNS if pattern.search(name)), None)


def layer_of(name: str) -> int | None:
    """The number of the layer that a module lies in, or None outside layers.

    Example:
        >>> layer_of("model.text_model.layers.11.mlp.up_proj"), layer_of("model.visual.blocks.2.attn.qkv")
        (11, 2)
        >>> layer_of("lm_head") is None
        True
    """
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None
