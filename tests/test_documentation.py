"""What pages, docstrings and comments name is there: files, folders, and modules with what they hold."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "src" / "reliabit"

PAGES = [
    PROJECT / "CONTRIBUTING.md",
    *(PROJECT / name for name in ("README.md", "bench/README.md", "Makefile", "dvc.yaml", "params.yaml")),
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "conf").rglob("*.yaml")),
]
SOURCES = sorted(path for folder in ("src", "bench") for path in (PROJECT / folder).rglob("*.py"))

PATH = re.compile(r"(?<![\w/.-])(?:src|tests|bench|conf|docs)/[\w./-]*\w|`(?:[\w-]+/)*\w+\.py\b")
DOTTED = re.compile(r"`(reliabit(?:\.\w+)+)")

CLASS = re.compile(r"`((?:[A-Z][a-z0-9]+){2,})`")

HISTORY = "docs/faults.md"
"""It names the classes that faults were in."""

EXAMPLES = {"clipped.py", "conf/confidence/tempered.yaml", "conf/quant/clipped.yaml", "temperature.py"}
"""Files that a reader is told to add."""

NAMES = {"reliabit.lock", "reliabit.quantizers", "reliabit.families", "reliabit.sources", "reliabit.confidences"}
"""What is called so and is no module: a registered model, and groups of entry points."""


@cache
def files() -> tuple[Path, ...]:
    folders = ("src", "tests", "bench", "conf", "docs")
    return tuple(
        path for folder in folders for path in (PROJECT / folder).rglob("*.*") if "__pycache__" not in path.parts
    )


def prose_of(path: Path) -> str:
    """The docstrings and comments of a source, or all of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    strings = (
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )
    return "\n".join([*(string for string in strings if isinstance(string, str)), *re.findall(r"#.*", text)])


def words_of(path: Path) -> Iterator[str]:
    """The names that the code of a source uses or defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.ClassDef(name=name) | ast.alias(name=name):
                yield name
            # An annotation may be a string.
            case ast.Constant(value=str(text)):
                yield from re.findall(r"^\w+$", text)


@cache
def names_of(path: Path) -> frozenset[str]:
    """What a module defines or imports at its top, and the members of its classes as `Class.member`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= {*defined_by(node)}
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in defined_by(inner)}
    return frozenset(found)


def defined_by(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)


def exists(dotted: str) -> bool:
    """Whether a module is there, or one that has the rest of the name."""
    folder, rest = PACKAGE, dotted.split(".")[1:]
    while rest and (folder / rest[0] / "__init__.py").is_file():
        folder /= rest.pop(0)
    if rest and (folder / f"{rest[0]}.py").is_file():
        homes = [folder / f"{rest.pop(0)}.py"]
    else:
        # What a package gives out lazily is named in its stub.
        homes = [path for path in (folder / "__init__.py", folder / "__init__.pyi") if path.is_file()]
    return not rest or any(".".join(rest) in names_of(home) for home in homes)


@cache
def prose() -> dict[str, str]:
    """By path within the project."""
    return {path.relative_to(PROJECT).as_posix(): prose_of(path) for path in [*PAGES, *SOURCES]}


def test_every_file_that_is_named_is_there():
    named = {(page, found.strip("`")) for page, text in prose().items() for found in PATH.findall(text)}
    assert len(named) > 150
    assert [
        f"{page}: {name}"
        for page, name in sorted(named)
        if name not in EXAMPLES and not (PROJECT / name).exists() and not any(file.match(name) for file in files())
    ] == []


def test_every_module_that_is_named_has_what_is_named():
    named = {(page, name) for page, text in prose().items() for name in DOTTED.findall(text)}
    assert len(named) > 50
    assert [f"{page}: {name}" for page, name in sorted(named) if name not in NAMES and not exists(name)] == []


def test_every_class_that_is_named_is_used():
    words = {word for path in SOURCES for word in words_of(path)}
    named = {(page, name) for page, text in prose().items() for name in CLASS.findall(text) if page != HISTORY}
    assert len(named) > 20
    assert [f"{page}: {name}" for page, name in sorted(named) if name not in words] == []
