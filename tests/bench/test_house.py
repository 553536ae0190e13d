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
    """The files that one leads to: it imports them, a package gives them out, or `Components` finds them by name."""
    found = reached_by(PACKAGE / path)
    doors = [PACKAGE / name for name in found if name.endswith("__init__.py")]
    return found | {name for door in doors for text in (door, door.with_suffix(".pyi")) for name in reached_by(text)}


def reached_by(path):
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {name for name in MODULES if name.rpartition(".")[0] in texts & {*MODULES}}
    return {MODULES[name].relative_to(PACKAGE).as_posix() for name in house.imports_of(tree, MODULES) | named}


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
