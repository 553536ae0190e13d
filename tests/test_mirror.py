"""The tests mirror the source: a folder for each package, and no module that no test reaches."""

import ast
import re
from pathlib import Path

import reliabit
from reliabit.code_graph import module_digests

PACKAGE, TESTS = Path(reliabit.__file__).parent, Path(__file__).parent
PROJECT = TESTS.parent

OF_THE_WHOLE = {"bench", "docs", "functional", "pipeline", "slurm"}
"""Folders whose tests run the product as a user does, or what lies beside the package."""


def packages() -> set[str]:
    return {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def named_in(path: Path) -> set[str]:
    """The modules of the package that a test imports or names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reliabit"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {*re.findall(r"\breliabit(?:\.\w+)+", node.value)}
    return found


def test_every_folder_of_tests_is_that_of_a_package():
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/test_*.py")}
    assert folders - OF_THE_WHOLE <= packages()
    # The commands are tested by the command line.
    assert packages() - folders <= {"commands"}


def test_every_module_is_reached_from_a_test():
    named = {name for path in TESTS.rglob("*.py") for name in named_in(path)}
    # What MLflow and Python load by its path, and the command line by its name; the tests of the whole run all of it.
    named |= {"reliabit.__main__", "reliabit.serving.mlflow_model"}
    named |= {f"reliabit.tasks.{path.stem}" for path in (PROJECT / "conf" / "task").glob("*.yaml")}
    named |= {f"reliabit.commands.{path.stem}" for path in (PACKAGE / "commands").glob("*.py")}
    reached = {*module_digests(sorted(named))}
    missed = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() not in reached]
    # An example that runs is a test as well.
    assert [path for path in missed if ">>>" not in path.read_text(encoding="utf-8")] == []
