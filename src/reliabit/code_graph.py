"""Which modules of this package a result depends on, told from their imports, and a digest of what each of them does.

A module depends on what it imports, at the top or within a function, and on the packages that hold it. What is imported
for type checkers alone is left out, as nothing of it runs. Packages that load their names lazily (PEP 562) name the
homes of these below `if TYPE_CHECKING:`; importing such a name is importing its home. `import_module` counts where it
is given a literal; a test shows that nowhere else is a module named by a value and reached by a result. Components that
are found by name (`reliabit.components`) may be any: every module of their package counts, and so does all code of the
installed packages that add some.

The digest of a module is one of its syntax tree, without docstrings. The tree is what Python compiles, so equal trees
do the same; comments, layout and documentation are not in it, and may be mended without losing a result. Trees of
different versions of Python differ, which is why the version counts among the libraries (`reliabit.digests`).
"""

import ast
import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec, resolve_name
from pathlib import Path
from pkgutil import iter_modules

PACKAGE = Path(__file__).parent
NAME = "reliabit"

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass
class _Module:
    """A module as its source tells of it.

    Attributes:
        digest: SHA-256 of its syntax tree without docstrings.
        imported: Each name that is imported whenever its code runs: a module, and what is taken from it if anything.
        lazy: The names that it gives out when they are first asked for, and the modules that hold them.
        components: The packages whose modules it finds components in, and their groups of entry points.
    """

    digest: str = ""
    imported: list[tuple[str, str | None]] = field(default_factory=list)
    lazy: dict[str, str] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)


def module_digests(
    entries: Sequence[str], *, by_value: Collection[str] = (), package: Path = PACKAGE
) -> Mapping[str, str]:
    """The digests of the modules that some modules depend on.

    Args:
        entries: Modules that compute a result, by dotted name.
        by_value: Modules and packages that are not looked into: what they give is part of an identity itself.
        package: The package's folder.

    Returns:
        By path within the package; those of installed packages that add components also by the package's name and
        version, such as `my-quantizers 1.2: my_quantizers/ternary.py`.
    """
    own, groups = _digests(tuple(entries), frozenset(by_value), package)
    return {**own, **{path: digest for group in groups for path, digest in _added(group).items()}}


@functools.cache
def _digests(
    entries: tuple[str, ...], by_value: frozenset[str], package: Path
) -> tuple[Mapping[str, str], Sequence[str]]:
    """The digests, and the groups of entry points that components are found under."""
    # Once a process: code is imported once.
    found: dict[Path, str] = {}
    groups: set[str] = set()
    waiting = list(entries)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = None if name in seen or _is_below(name, by_value) else _file_of(name, package)
        seen.add(name)
        if path is None or path in found:
            continue
        module = _read(path)
        found[path] = module.digest
        waiting += _parents(name)
        for target, taken in module.imported:
            waiting += _meant(_absolute(target, importer=name, path=path), taken, package)
        for holder, group in module.components.items():
            groups.add(group)
            folder = package.joinpath(*holder.split(".")[1:])
            waiting += [holder, *(f"{holder}.{inner.name}" for inner in iter_modules([str(folder)]))]
    return {path.relative_to(package).as_posix(): found[path] for path in sorted(found)}, sorted(groups)


@functools.cache
def _added(group: str) -> Mapping[str, str]:
    """The digests of all modules of the installed packages that name components in a group of entry points."""
    found = {}
    for point in entry_points(group=group):
        whose = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        for path, folder in _sources(point.module):
            found[f"{whose}: {path.relative_to(folder).as_posix()}"] = _read(path).digest
    return dict(sorted(found.items()))


def _sources(module: str) -> list[tuple[Path, Path]]:
    """The files of the outermost package that holds a module, each with the folder that it is imported from."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = find_spec(".".join(parts[:depth]))
        if spec is None:
            return []
        # A namespace, which several packages may share, has no file of its own.
        if spec.origin is not None:
            path = Path(spec.origin)
            inner = sorted(path.parent.rglob("*.py")) if spec.submodule_search_locations else [path]
            root = path.parents[depth] if spec.submodule_search_locations else path.parents[depth - 1]
            return [(file, root) for file in inner]
    return []


def _is_below(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _absolute(target: str, *, importer: str, path: Path) -> str:
    """The dotted name of what a module imports; relative names begin with a dot for each level."""
    return resolve_name(target, importer if path.name == "__init__.py" else importer.rpartition(".")[0])


def _meant(module: str, taken: str | None, package: Path) -> list[str]:
    """The modules that an import stands for: `import module`, or `from module import taken`."""
    if not _is_below(module, (NAME,)):
        return []
    path = _file_of(module, package)
    lazy = {} if path is None else _read(path).lazy
    # Of a module that was imported as a whole or by a star, any name may be used.
    homes = list(lazy.values()) if taken in (None, "*") else [f"{module}.{taken}", *filter(None, [lazy.get(taken)])]
    return [module, *(_absolute(home, importer=module, path=path or package) for home in homes)]


@functools.cache
def _file_of(name: str, package: Path) -> Path | None:
    top, *parts = name.split(".")
    if top != NAME:
        return None
    place = package.joinpath(*parts)
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _read(path: Path) -> _Module:
    source = path.read_bytes()
    tree = ast.parse(source, filename=str(path))
    found, checked = _Module(), _Module()
    for node in _statements(tree.body, found, checked):
        _note(node, found)
    if b"import_module" in source:
        found.imported += [(name, None) for name in _named_by_literals(tree)]
    if b"Components" in source:
        found.components = dict(_component_packages(tree))
    if any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body):
        found.lazy = {taken: module for module, taken in checked.imported if taken is not None}
    found.lazy |= _stubbed(path.with_suffix(".pyi"))
    found.digest = hashlib.sha256("\n".join(_spell(tree, [])).encode()).hexdigest()
    return found


def _stubbed(stub: Path) -> dict[str, str]:
    """The names that `lazy_loader` gives out for a package, and their homes: it reads them from the package's stub."""
    told = _Module()
    for node in ast.parse(stub.read_bytes()).body if stub.is_file() else []:
        _note(node, told)
    return {taken: module for module, taken in told.imported if taken is not None}


def _spell(node: ast.AST, words: list[str]) -> list[str]:
    """Add a syntax tree to a list of words, one for one; what `ast.dump` does in a third of the time."""
    words.append(node.__class__.__name__)
    # A class of nodes has its fields always, and in one order.
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            words.append("[")
            for part in value:
                if isinstance(part, ast.AST):
                    _spell(part, words)
                else:
                    words.append(repr(part))
            words.append("]")
        elif isinstance(value, ast.AST):
            _spell(value, words)
        else:
            words.append(repr(value))
    return words


def _statements(body: list[ast.stmt], found: _Module, checked: _Module) -> Iterator[ast.stmt]:
    """The statements of a block and of the blocks within it that run; strings that stand alone are removed from it."""
    body[:] = [node for node in body if not _is_text(node)]
    for node in body:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for inner in _statements(node.body, checked, checked):
                _note(inner, checked)
            yield from _statements(node.orelse, found, checked)
            continue
        yield node
        for name in _BLOCKS:
            for block in _blocks(getattr(node, name, None)):
                yield from _statements(block, found, checked)


def _blocks(value: object) -> Iterator[list[ast.stmt]]:
    """The lists of statements that a field of a statement holds, itself or in its handlers and cases."""
    if not isinstance(value, list) or not value:
        return
    if isinstance(value[0], ast.stmt):
        yield value
    else:
        yield from (part.body for part in value if isinstance(part, ast.ExceptHandler | ast.match_case))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _note(node: ast.stmt, module: _Module) -> None:
    if isinstance(node, ast.Import):
        module.imported += [(alias.name, None) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        module.imported += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """The calls of a function or class of some name, whatever it is taken from or subscripted with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
            if name == (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")):
                yield node


def _named_by_literals(tree: ast.Module) -> Iterator[str]:
    for call in _calls(tree, "import_module"):
        if call.args and isinstance(call.args[0], ast.Constant):
            yield str(call.args[0].value)


def _component_packages(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for call in _calls(tree, "Components"):
        given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        yield str(given["package"]), str(given["entry_points"])
