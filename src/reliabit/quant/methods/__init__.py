"""The quantization methods by name, a module each; that a name is one of them is known without importing torch."""

from collections.abc import Mapping
from typing import Any

from reliabit.components import Components
from reliabit.settings import to_settings

QUANTIZERS = Components[type[Any]]("quantizer", package="reliabit.quant.methods", entry_points="reliabit.quantizers")
"""Classes of `reliabit.quant.quantizer.Quantizer`."""


def read_options(method: str, given: Mapping[str, Any], *, key: str) -> Any:
    """A method's own settings, as the dataclass that it declares; see `reliabit.settings.to_settings`."""
    return to_settings(QUANTIZERS[method].options, given, key=key, of=f"quant.method={method}")
