"""The page on the architecture: its walks, its floors and its figures are those of the code."""

import ast
import json
import re
from pathlib import Path

import house
import pytest

from test_floors import FLOORS

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "src" / "reliabit"
PAGE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
MODULES = house.modules_of(PROJECT / "src")


def section(heading):
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


WALKS = {
    title: re.findall(r"^\d+\. `([\w/]+\.py)`: .*?`(\w+)`", steps, flags=re.M)
    for title, steps in re.findall(r"^\*\*(.+?)\*\*.*?\n((?:.+\n|\n(?=\d))+)", section("Three walks"), flags=re.M)
}
PLACES = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| `(\w+)` \|$", section("Where is it?"), flags=re.M)


def defined_in(path):
    """The classes, functions and top-level names of a module."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assigned = (
        node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None) for node in tree.body
    )
    return names | {target.id for target in assigned if isinstance(target, ast.Name)}


def followed_from(path):
    """The files that one imports, and those that it finds by name: all of the package that it gives to `Components`."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    names = house.imports_of(tree, MODULES)
    given = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names |= {name for name in MODULES if name.rpartition(".")[0] in given & {*MODULES}}
    files = {MODULES[name].relative_to(PACKAGE).as_posix() for name in names}
    # What a package gives out are its modules' names.
    return files | {found for name in files if name.endswith("__init__.py") for found in given_out(name)}


def given_out(path):
    stub = (PACKAGE / path).with_suffix(".pyi")
    texts = [text.read_text(encoding="utf-8") for text in (PACKAGE / path, stub) if text.is_file()]
    names = {name for text in texts for name in house.imports_of(ast.parse(text), MODULES)}
    return {MODULES[name].relative_to(PACKAGE).as_posix() for name in names} | followed_by_name(path)


def followed_by_name(path):
    literals = {
        node.value for node in ast.walk(ast.parse((PACKAGE / path).read_text())) if isinstance(node, ast.Constant)
    }
    folders = {name for name in MODULES if name in literals}
    return {MODULES[name].relative_to(PACKAGE).as_posix() for name in MODULES if name.rpartition(".")[0] in folders}


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_follows_the_imports(walk):
    files = [path for path, _ in WALKS[walk]]
    assert len(files) >= 8
    for place, path in enumerate(files[1:], 1):
        assert any(path in followed_from(before) for before in files[:place]), f"{path} is not reached from above"


def test_three_walks_and_where_things_are_name_what_is_defined_there():
    assert len(WALKS) == 3
    assert len(PLACES) > 20
    for path, name in [*PLACES, *(step for walk in WALKS.values() for step in walk)]:
        assert name in defined_in(path), f"{path} defines no {name}"


def test_the_floors_of_the_page_are_those_that_imports_are_held_to():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", section("The floors"), flags=re.M)
    shown = {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert shown == {name: FLOORS[name] for name in shown}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == {*shown}


def test_files_named_on_the_page_are_there():
    for path in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert any((folder / path).is_file() for folder in (PACKAGE, PROJECT, PROJECT / "src")), path


def test_the_figures_of_the_page_were_measured():
    assert house.table(json.loads(house.RESULTS.read_text())) in PAGE


def test_the_house_stays_as_it_was_measured():
    figures = house.source_figures(PROJECT / "src")
    measured = json.loads(house.RESULTS.read_text())["now"]
    assert figures["circles"] == []
    assert figures["above_320"] == {}
    assert figures["files"] <= 1.1 * measured["files"]
    assert figures["imports_share"] <= 1.1 * measured["imports_share"]
