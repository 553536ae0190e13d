"""Registers the checkpoint format with transformers, without importing transformers.

Importing `reliabit` must cost nothing and yet be enough for plain `from_pretrained` to know the format: where
transformers is imported already the format is registered at once, otherwise as soon as transformers loads the module
that holds its registry.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # Importing them takes as long as all of Python; finders and loaders are told by their methods.
    Loader = MetaPathFinder = object

_REGISTRY = "transformers.quantizers.auto"


def register_when_imported() -> None:
    """Register the checkpoint format now, or when transformers is imported; calling it again changes nothing."""
    if _REGISTRY in sys.modules:
        _register()
    elif not any(isinstance(finder, _RegistryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistryFinder())


def _register() -> None:
    """Import the plug-in, which registers itself; where its own import brought us here, it is about to."""
    import_module("reliabit.quant.plugin")


class _RegistryFinder(MetaPathFinder):
    """Finds the registry's module as usual, once, and has the format registered after it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(Loader):
    """Loads a module with its own loader, then registers the format."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register()
