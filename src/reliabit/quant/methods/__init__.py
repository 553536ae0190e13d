"""The quantization methods by name, a module each; that a name is one of them is known without importing torch."""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reliabit.components import Components
from reliabit.settings import to_settings

QUANTIZERS = Components[type[Any]]("quantizer", package="reliabit.quant.methods", entry_points="reliabit.quantizers")
"""Classes of `reliabit.quant.quantizer.Quantizer`."""


def read_options(method: str, given: Mapping[str, Any], *, key: str) -> Any:
    """A method's own settings, as the dataclass that it declares; see `reliabit.settings.to_settings`."""
    return to_settings(QUANTIZERS[method].options, given, key=key, of=f"quant.method={method}")


def needs_inputs(method: str) -> bool:
    """Whether a method learns from the inputs of its layers, as its source says: `needs_inputs = True` in a class.

    The source is read, not run: whether a finished run can be used again is told without importing torch.

    >>> needs_inputs("gptq"), needs_inputs("rtn")
    (True, False)
    """
    module = QUANTIZERS.module_of(method)
    return module is not None and _declares_inputs(module)


@cache
def _declares_inputs(module: str) -> bool:
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return False
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return any(
        isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is True
        and "needs_inputs" in {target.id for target in _targets(statement) if isinstance(target, ast.Name)}
        for defined in ast.walk(tree)
        if isinstance(defined, ast.ClassDef)
        for statement in defined.body
    )


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]
