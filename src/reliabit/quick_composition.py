"""What looks after runs and models reads of the configuration, composed without Hydra, which takes a second to do it.

`reliabit history` wants to know where runs are recorded, and no more. The groups that say so are plain files that refer
to each other's values. Whatever is not as plain as that (an argument of another group or form, a file made of others, a
value of another type than its key's) is left to Hydra as a whole, and a test holds the two against each other.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from reliabit.config import Config
from reliabit.config_errors import options_are_added
from reliabit.paths import conf_folder, project_root
from reliabit.settings import check

GROUPS = ("paths", "tracking", "registry", "trainer")
REFERRED = ("evaluation",)
"""The groups that those refer to."""

_ARGUMENT = re.compile(r"(?P<key>[a-z]\w*(?:\.[a-z]\w*)?)=(?P<value>[\w./:@-]+)", re.ASCII)
_TYPED = re.compile(r"null|true|false|nan|[+-]?inf|[-+.\d_]+(?:e[-+\d_]+)?", re.IGNORECASE)
"""Words that Hydra reads as something else than a text."""
_REFERENCE = re.compile(r"\$\{(?P<name>[\w.]*)(?::(?P<argument>[^${}]*))?\}")

T = TypeVar("T")


class _NotPlainError(Exception):
    """Something is left to Hydra."""


def compose_groups(overrides: Sequence[str]) -> Config | None:
    """The configuration with `GROUPS` filled in and all others empty; `None` where Hydra is to compose it.

    Args:
        overrides: Arguments as Hydra takes them.

    Raises:
        ReliabitError: A value is not among those of its key.
    """
    if options_are_added():
        return None
    try:
        values = _values(overrides)
        found = {name: _built(hint, values[name]) for name, hint in get_type_hints(Config).items() if name in GROUPS}
    except (_NotPlainError, KeyError):
        return None
    for name, settings in found.items():
        check(settings, key=name)
    return Config(**found)


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    """The groups as plain mappings, each reference followed."""
    chosen, values = _defaults()
    given: dict[tuple[str, str], str] = {}
    for override in overrides:
        found = _ARGUMENT.fullmatch(override)
        if found is None:
            raise _NotPlainError
        group, _, key = found["key"].partition(".")
        if group not in GROUPS or (not key and group not in chosen):
            raise _NotPlainError
        if key:
            given[group, key] = found["value"]
        else:
            chosen[group] = found["value"]
    for group in (*GROUPS, *REFERRED):
        if group in chosen:
            values[group] = _file(f"{group}/{chosen[group]}.yaml")
    for (group, key), value in given.items():
        # Only a text that is one in Hydra's grammar too; numbers are composed by whoever knows their notations.
        if _TYPED.fullmatch(value) or not isinstance(values[group].get(key), str):
            raise _NotPlainError
        values[group][key] = value
    return {group: _followed(values[group], values) for group in GROUPS}


def _defaults() -> tuple[dict[str, str], dict[str, Any]]:
    """The options that `config.yaml` chooses, and the values that it holds itself."""
    values = _file("config.yaml", made_of_others=True)
    chosen: dict[str, str] = {}
    for entry in values.pop("defaults"):
        if isinstance(entry, dict):
            chosen |= entry
        elif entry not in ("schema", "_self_"):
            raise _NotPlainError
    if chosen.pop("experiment", None) is not None or set(chosen) & set(values):
        raise _NotPlainError
    return chosen, values


def _file(name: str, *, made_of_others: bool = False) -> dict[str, Any]:
    import yaml

    path = conf_folder() / name
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # OmegaConf reads 1e-3 as a number, and YAML itself does not.
    if not text or "@package" in text or re.search(r"[\d.]e[-+]?\d", text):
        raise _NotPlainError
    # As `yaml.safe_load` does, by the parser in C where there is one.
    found = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()
    if not isinstance(found, dict) or ("defaults" in found and not made_of_others):
        raise _NotPlainError
    return found


def _followed(value: Any, values: Mapping[str, Any]) -> Any:
    """A value with its references followed."""
    if isinstance(value, dict):
        return {key: _followed(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_followed(inner, values) for inner in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    if whole := _REFERENCE.fullmatch(value):
        return _referred(whole, values)
    replaced = _REFERENCE.sub(lambda found: _text(_referred(found, values)), value)
    if "${" in replaced:
        raise _NotPlainError
    return replaced


def _referred(found: re.Match[str], values: Mapping[str, Any]) -> Any:
    name, argument = found["name"], found["argument"]
    if argument is None:
        target: Any = values
        for part in name.split("."):
            target = target[part]
        return _followed(target, values)
    if name == "project_root" and not argument:
        return str(project_root())
    if name == "oc.env":
        variable, comma, default = argument.partition(",")
        if variable in os.environ or (comma and default):
            return os.environ.get(variable, default)
    raise _NotPlainError


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _NotPlainError
    return value


def _built(hint: Any, value: Any) -> Any:
    """A value of the type that the schema gives it."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict) or not {entry.name for entry in fields(hint)} >= value.keys():
            raise _NotPlainError
        hints = get_type_hints(hint)
        return hint(**{key: _built(hints[key], inner) for key, inner in value.items()})
    if get_origin(hint) is UnionType:
        if value is None:
            return None
        [hint] = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is list and isinstance(value, list):
        [inner_hint] = get_args(hint)
        return [_built(inner_hint, inner) for inner in value]
    if hint is float and type(value) is int:
        return float(value)
    if hint not in (str, int, float, bool) or type(value) is not hint:
        raise _NotPlainError
    return value
