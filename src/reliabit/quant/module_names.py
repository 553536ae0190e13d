"""What a module is, told by its name: the component and the layer it lies in, and patterns that mean it."""

import re
from collections import defaultdict
from collections.abc import Sequence
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

_LANGUAGE = re.compile(r"^(?:.*\.)?(?:language_model|text_model)\.layers\.(?P<layer>\d+)\.(?P<tail>.+)$")
_LAYERED = re.compile(r"^(?:model\.)?(?P<root>.+)\.(?P<layer>\d+)\.(?P<tail>.+)$")
_OUTSIDE_VISION = r"re:^(?!.*(?:visual|vision)).*\blayers\."


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


def target_patterns(names: Sequence[str], modules: Sequence[str]) -> list[str]:
    r"""Patterns in the form that compressed-tensors takes, which mean these modules and no others.

    transformers and serving engines give the modules of one model different prefixes, so a pattern anchors on what is
    common: the layer's number and the module's name in it, outside the vision tower for the language model, inside it
    for the tower.

    Args:
        names: The modules that are meant.
        modules: All modules of the kind; where all layers are meant, the pattern leaves the number open.

    Returns:
        Patterns that start with `re:`, to be matched from the start of a name.

    Example:
        >>> language = [f"model.language_model.layers.{layer}.mlp.up_proj" for layer in range(2)]
        >>> target_patterns(language, [*language, "lm_head"])
        ['re:^(?!.*(?:visual|vision)).*\\blayers\\.(?:\\d+)\\.mlp\\.up_proj$']
        >>> target_patterns(["lm_head"], [*language, "lm_head"])
        ['re:^(?:.*\\.)?lm_head$']
    """
    every = _layers_by_place(modules)
    patterns = []
    for place, layers in _layers_by_place(names).items():
        prefix, tail = place
        if not layers:
            patterns.append(f"{prefix}{tail}$")
            continue
        numbers = r"\d+" if layers == every[place] else "|".join(map(str, sorted(layers)))
        patterns.append(f"{prefix}(?:{numbers})\\.{tail}$")
    return patterns


def _layers_by_place(names: Sequence[str]) -> dict[tuple[str, str], set[int]]:
    """The layers in which each place in a layer occurs; places outside layers have none."""
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        if found := _LANGUAGE.match(name):
            places[_OUTSIDE_VISION, re.escape(found["tail"])].add(int(found["layer"]))
        elif found := _LAYERED.match(name):
            prefix = rf"re:^(?:.*\.)?{re.escape(found['root'])}\."
            places[prefix, re.escape(found["tail"])].add(int(found["layer"]))
        else:
            places[r"re:^(?:.*\.)?", re.escape(name.removeprefix("model."))].update()
    return places
