"""Packages that somebody else installs, with components of their own and the options that choose them."""

import sys
import textwrap
from contextlib import contextmanager
from importlib import invalidate_caches

import pytest
from hydra import compose, initialize_config_dir

from reliabit.components import Components
from reliabit.composition import register, to_config
from reliabit.paths import conf_folder


def install(folder, *, name: str, group: str, code: str, options: dict[str, str]) -> str:
    """Lay down an installed package of one module that defines the component `name`; returns what the module is called.

    `options` are files below its folder of options, such as `data/squares.yaml`.
    """
    module = f"added_{name}"
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    told = folder / f"{module}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    for path, text in options.items():
        (folder / "options" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "options" / path).write_text(textwrap.dedent(text))
    return module


@contextmanager
def added(folder, components: Components, *, name: str, group: str, code: str, options: dict[str, str]):
    """Install a package in this process, see `install`, and take all of it away again."""
    module = install(folder, name=name, group=group, code=code, options=options)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        invalidate_caches()
        try:
            yield
        finally:
            components._registered.pop(name, None)
            sys.modules.pop(module, None)


def composed(folder, *overrides: str):
    """The configuration of some overrides, with the options of a package."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=[f"hydra.searchpath=[file://{folder / 'options'}]", *overrides]))
