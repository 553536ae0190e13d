"""The quantization methods by name, a module each; that a name is one of them is known without importing torch."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from reliabit.components import Components
from reliabit.errors import ReliabitError
from reliabit.settings import check

QUANTIZERS = Components[type[Any]]("quantizer", package="reliabit.quant.methods", entry_points="reliabit.quantizers")
"""Classes of `reliabit.quant.quantizer.Quantizer`."""


def read_options(method: str, given: Mapping[str, Any], *, key: str) -> Any:
    """A method's own settings, as the dataclass that it declares; None where it declares none.

    Args:
        method: Its name.
        given: What was set, by name of the setting.
        key: Where it stands in a configuration, for messages.

    Raises:
        ReliabitError: A setting that the method does not have, one that it cannot do without, or a wrong value.

    Example:
        >>> read_options("rtn", {"damping": 0.01}, key="quant.options")
        Traceback (most recent call last):
        reliabit.errors.ReliabitError: quant.options has unknown keys ['damping']; quant.method=rtn takes none
    """
    kind = QUANTIZERS[method].options
    names = [] if kind is None else [entry.name for entry in fields(kind)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        taken = ", ".join(names) or "none"
        raise ReliabitError(f"{key} has unknown keys {unknown}; quant.method={method} takes {taken}")
    if kind is None:
        return None
    try:
        settings = kind(**given)
    except TypeError as error:
        raise ReliabitError(f"{key}={dict(given)} does not suit quant.method={method} ({error})") from error
    for name, hint in get_type_hints(kind).items():
        _check_type(getattr(settings, name), hint, key=f"{key}.{name}")
    check(settings, key=key)
    return settings


def _check_type(value: object, hint: Any, *, key: str) -> None:
    # A whole number is a float too; what lists and mappings hold is left to the method.
    allowed = hint | int if isinstance(0.0, hint) else hint
    if not isinstance(value, allowed) or (isinstance(value, bool) and not isinstance(True, hint)):
        raise ReliabitError(f"{key}={value!r} is not of the type {getattr(hint, '__name__', hint)}")
