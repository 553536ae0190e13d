"""Which modules of the package another one imports, itself or through others, lazy imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import reliabit

PACKAGE = Path(reliabit.__file__).parent


def reached_from(module: str, *, not_through: frozenset[str] = frozenset()) -> set[str]:
    """The files that a module's code may run, relative to `src/reliabit`; some modules are not looked into."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is not None and path not in found and name not in not_through:
            found.add(path)
            waiting += _imported_by(path)
    return {path.relative_to(PACKAGE).as_posix() for path in found}


def _file_of(name: str) -> Path | None:
    top, *parts = name.split(".")
    if top != "reliabit":
        return None
    place = PACKAGE.joinpath(*parts)
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # What is imported may be a module itself.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
