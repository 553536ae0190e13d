"""The pages of what Python code imports; mkdocstrings fills them from the docstrings."""

import ast
from pathlib import Path

_PYTHON = """\
# Python

What `import reliabit` gives; [Use from Python](../python.md) shows all of it at work. Each name is imported when it is
first used.
"""

_METRICS = """\
# Metrics

[Concepts](../concepts.md) has what each means, with a picture; [Metrics and what they claim](../metrics.md) has the
names under which runs record them.
"""

_FUNCTIONAL = """\
## Pure functions: reliabit.metrics.functional

Arguments are one-dimensional tensors, arrays or lists. Higher confidence is surer; accuracies lie in [0, 1]; results
are fractions; a threshold accepts `confidence >= threshold`, and an impossible one is infinite.
"""

_REPORT = "reliabit.evaluation.own_answers.report.AnswerReport"


def exported(package: Path) -> dict[str, str]:
    """What a package gives out: each name, and the dotted name of where it is defined.

    Args:
        package: The stub or the `__init__.py` of the package, below a folder `src`.
    """
    dotted = ".".join(package.parent.parts[package.parts.index("src") + 1 :])
    tree = ast.parse(package.read_text(encoding="utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("reliabit")):
            home = ".".join(filter(None, (dotted if node.level else "", node.module)))
            found |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in node.names}
    listed = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"
    ]
    # A stub gives out all that it imports.
    return {name: found[name] for name in (ast.literal_eval(listed[0]) if listed else found)}


def python_page(project: Path) -> str:
    """Of the functions that `import reliabit` gives.

    Args:
        project: The folder of the repository.
    """
    names = exported(project / "src" / "reliabit" / "__init__.pyi")
    modules = {"metrics", "quant"}
    parts = [_PYTHON]
    parts += [_entry(f"reliabit.{name}", where) for name, where in sorted(names.items()) if name not in modules]
    parts += ["What `measure` and `evaluate` give:\n", _entry("AnswerReport", _REPORT)]
    parts += ["`reliabit.metrics` has [a page of its own](metrics.md).\n", "## Quantization: reliabit.quant\n"]
    quant = exported(project / "src" / "reliabit" / "quant" / "__init__.pyi")
    parts += [_entry(name, where) for name, where in sorted(quant.items()) if where not in names.values()]
    return "\n".join(parts)


def metrics_page(project: Path) -> str:
    """Of the metrics: torchmetrics classes and statistics, then the pure functions.

    Args:
        project: The folder of the repository.
    """
    folder = project / "src" / "reliabit" / "metrics"
    parts = [_METRICS, "## Classes, certificates and intervals: reliabit.metrics", ""]
    parts += [_entry(name, where) for name, where in sorted(exported(folder / "__init__.py").items())]
    parts += [_FUNCTIONAL]
    functional = exported(folder / "functional" / "__init__.py")
    return "\n".join([*parts, *(_entry(name, where) for name, where in sorted(functional.items()))])


def _entry(heading: str, where: str) -> str:
    return f"::: {where}\n    options:\n      heading: {heading}\n      heading_level: 3\n"
