"""What a component's settings may hold, beyond their types: fields that are checked, and the check.

The settings of a component are one dataclass beside the code that reads them. It is the schema that a configuration is
composed from, and it is checked once: by `check`, which calls the `check` of every dataclass within it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

from reliabit.errors import ReliabitError

T = TypeVar("T")

MISSING: Any = "???"
"""How OmegaConf marks a value that is to be given. Written out, since importing it takes longer than `--help` does."""


def choice(*options: object, default: Any = MISSING) -> Any:
    """A field that holds one of some options, or a list of some of them."""
    return field(default=default, metadata={"choices": options})


def component(of: Collection[str], *, default: Any = MISSING, or_null: bool = False) -> Any:
    """A field that holds the name of one of some `reliabit.components.Components`, of which it imports no more."""
    return field(default=default, metadata={"choices": of, "or_null": or_null})


def positive(*, default: Any = MISSING) -> Any:
    """A field that holds a number above zero."""
    return field(default=default, metadata={"positive": True})


def listed(options: Iterable[object]) -> str:
    """Options as a message lists them.

    >>> listed((None, 2, 3))
    'null, 2, 3'
    """
    return ", ".join("null" if option is None else str(option) for option in options)


def check(settings: object, *, key: str) -> None:
    """Check every field, then what must hold between fields: a settings class says that in a method `check(key)`.

    Args:
        settings: A dataclass, dataclasses within it included.
        key: Where it stands in a configuration, such as `confidence.selector`; empty for the whole.

    Raises:
        ReliabitError: Names the key, its value, and what it may be.
    """
    place = f"{key}." if key else ""
    for entry in fields(settings):  # type: ignore[arg-type]
        value, name = getattr(settings, entry.name), f"{place}{entry.name}"
        if is_dataclass(value):
            check(value, key=name)
            continue
        if isinstance(value, dict):
            for label, inner in value.items():
                if is_dataclass(inner):
                    check(inner, key=f"{name}.{label}")
        if value is not None or not entry.metadata.get("or_null"):
            _check_choices(value, entry.metadata.get("choices"), name=name)
        if entry.metadata.get("positive") and value is not None and value <= 0:
            raise ReliabitError(f"{name}={value} must be above zero")
    own = getattr(settings, "check", None)
    if own is not None:
        own(key)


def check_template(template: str, *, key: str, fields: Sequence[str]) -> None:
    """Check that a template can be filled in, and shows each of its fields.

    Raises:
        ReliabitError: It cannot, or lacks one.
    """
    try:
        template.format(**dict.fromkeys(fields, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise ReliabitError(f"{key}={template!r} cannot be filled in ({error}); double every other brace") from error
    for name in fields:
        if f"{{{name}}}" not in template:
            raise ReliabitError(f"{key}={template!r} lacks {{{name}}}, where the {name} goes")


def to_settings(schema: type[T] | None, values: Mapping[str, Any], *, key: str, of: str) -> T | None:
    """A component's own settings from the mapping that a configuration gives, typed and checked.

    Args:
        schema: The dataclass that the component declares; `None` where it has no settings.
        values: What is given; the rest are defaults.
        key: Where it stands in the configuration.
        of: The component, as messages name it.

    Raises:
        ReliabitError: A value is missing, not known or not one of its key's.

    >>> to_settings(None, {"damping": 0.01}, key="quant.options", of="quant.method=rtn")
    Traceback (most recent call last):
    reliabit.errors.ReliabitError: quant.options has unknown keys ['damping']; quant.method=rtn takes none
    """
    names = [] if schema is None else [entry.name for entry in fields(schema)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ReliabitError(f"{key} has unknown keys {unknown}; {of} takes {', '.join(names) or 'none'}")
    if schema is None:
        return None
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), dict(values)))
    except OmegaConfBaseException as error:
        raise ReliabitError(f"{key} cannot be used: {' '.join(str(error).split())}") from error
    if not isinstance(found, schema):
        raise TypeError("the schema decides the type of settings")
    check(found, key=key)
    return found


def _check_choices(value: object, choices: Collection[object] | None, *, name: str) -> None:
    if choices is None:
        return
    for one in value if isinstance(value, list) else [value]:
        if one not in choices:
            raise ReliabitError(f"{name}={one} is not a value of this key; choose one of: {listed(choices)}")
    if isinstance(value, list) and (not value or len(set(value)) < len(value)):
        raise ReliabitError(f"{name}={value} must name at least one value, and each once")
