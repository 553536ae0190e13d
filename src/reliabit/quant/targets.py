"""Regular expressions that mean certain modules, in whatever frame a reader puts the model.

transformers and serving engines give the modules of one model different prefixes, so a pattern anchors on what is
common: the layer's number and the module's name in it, outside the vision tower for the language model, inside it for
the tower.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

_LANGUAGE = re.compile(r"^(?:.*\.)?(?:language_model|text_model)\.layers\.(?P<layer>\d+)\.(?P<tail>.+)$")
_LAYERED = re.compile(r"^(?:model\.)?(?P<root>.+)\.(?P<layer>\d+)\.(?P<tail>.+)$")
_OUTSIDE_VISION = r"re:^(?!.*(?:visual|vision)).*\blayers\."


def target_patterns(names: Sequence[str], modules: Sequence[str]) -> list[str]:
    r"""Patterns in the form that compressed-tensors takes, which mean these modules and no others.

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
