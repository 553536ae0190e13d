"""Components by name: each registers itself where it is defined, and is imported when it is first asked for.

A component of Reliabit lives in a module of its kind's package; one that somebody adds lives in a package of their own,
which names its module as an entry point (`[project.entry-points."reliabit.quantizers"]`, `name = "package.module"`).
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Generic, TypeVar

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Components(Generic[T]):
    """The components of one kind.

    >>> shapes = Components[type]("shape", package="reliabit.no_such_package", entry_points="reliabit.shapes")
    >>> @shapes.register("round")
    ... class Circle: ...
    >>> shapes["round"].__name__, shapes.names(), "square" in shapes
    ('Circle', ('round',), False)
    """

    def __init__(self, kind: str, *, package: str, entry_points: str) -> None:
        """Know where components are found; nothing is imported.

        Args:
            kind: What errors call one, such as "quantizer".
            package: The package whose modules define Reliabit's own. A module that is called as the one component that
                it defines is imported alone; where a name is nobody's module, all of them are.
            entry_points: The group of entry points under which installed packages name theirs.

        Both are literals where this is called: `reliabit.code_graph` reads there what a result depends on.
        """
        self._kind, self._package, self._group = kind, package, entry_points
        self._registered: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Make what is decorated known by one or more names.

        Raises:
            ReliabitError: A name is taken already.
        """

        def registered(component: T) -> T:
            for name in names:
                if name in self._registered:
                    raise ReliabitError(f"there are two {self._kind}s called {name}; rename one of them")
                self._registered[name] = component
            return component

        return registered

    def __getitem__(self, name: str) -> T:
        """The component of a name.

        Raises:
            ReliabitError: There is none; the message lists those that there are.
        """
        if name not in self:
            raise ReliabitError(f"there is no {self._kind} {name!r}; choose one of {', '.join(self.names())}")
        return self._registered[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._registered:
            self._import(str(name))
        return name in self._registered

    def __iter__(self) -> Iterator[str]:
        """Every name, sorted; imports all of them."""
        return iter(self.names())

    def __len__(self) -> int:
        """How many there are; imports all of them."""
        return len(self.names())

    def names(self) -> tuple[str, ...]:
        """Every name, sorted; imports all of them."""
        self._import_all()
        return tuple(sorted(self._registered))

    def found(self) -> tuple[str, ...]:
        """Names as the modules and the entry points tell them, sorted; nothing is imported."""
        own = (module for module in _modules(self._package) if not module.startswith("_"))
        return tuple(sorted({*own, *_plugins(self._group)}))

    def module_of(self, name: str) -> str | None:
        """The module of a name that `found` tells of, by its dotted name; nothing is imported.

        >>> Components[type]("shape", package="reliabit.quant", entry_points="reliabit.shapes").module_of("grid")
        'reliabit.quant.grid'
        """
        if name in _modules(self._package):
            return f"{self._package}.{name}"
        plugin = _plugins(self._group).get(name)
        return None if plugin is None else plugin.module

    def _import(self, name: str) -> None:
        plugins = _plugins(self._group)
        if name in _modules(self._package):
            import_module(f"{self._package}.{name}")
        elif name in plugins:
            _load(plugins[name], kind=self._kind)
        else:
            self._import_all()

    def _import_all(self) -> None:
        for module in _modules(self._package):
            import_module(f"{self._package}.{module}")
        for plugin in _plugins(self._group).values():
            _load(plugin, kind=self._kind)


@cache
def _modules(package: str) -> tuple[str, ...]:
    """The modules of one of our packages, without importing any."""
    spec = find_spec(package)
    return tuple(found.name for found in iter_modules(spec.submodule_search_locations if spec else []))


def _plugins(group: str) -> "dict[str, EntryPoint]":
    # `--help` lists no components, and importing this takes as long as all of it.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


def _load(plugin: "EntryPoint", *, kind: str) -> None:
    if plugin.module in sys.modules:
        return
    try:
        import_module(plugin.module)
    except ImportError as error:
        raise ReliabitError(
            f"the {kind} {plugin.name} cannot be imported from {plugin.module} ({error}); repair its package"
        ) from error
