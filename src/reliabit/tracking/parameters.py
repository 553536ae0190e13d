"""The parameters of a run: what of its configuration runs are compared by."""

from collections.abc import Mapping
from typing import Any

from reliabit import identity
from reliabit.tracking.tags import PLACES


def parameters_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration a run is compared by: neither where files lie, nor how it was carried out or judged.

    >>> parameters_of({"task": {"name": "pipeline"}, "quant": {"bits": 4}, "paths": {"root": "/x"}, "seed": 0})
    {'quant.bits': 4, 'seed': 0}
    """
    return {
        key: value
        for key, value in flatten(config).items()
        if key not in PLACES and not key.startswith("task.") and not identity.is_transport(key)
    }


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into dotted keys.

    >>> flatten({"quant": {"bits": 4}, "seed": 0})
    {'quant.bits': 4, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
