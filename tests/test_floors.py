"""The house stands on its floors: an import never points up, and heavy packages stay where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reliabit

PACKAGE = Path(reliabit.__file__).parent

FLOORS = {
    "errors": -2,
    "process": -2,
    "threads": -2,
    "components": -1,
    "settings": 0,
    "terminal": 0,
    "progress": 0,
    "files": 0,
    "code_graph": 0,
    "cache": 0,
    "paths": 1,
    "disk_errors": 1,
    "metrics": 1,
    "quant": 1,
    "data": 1,
    "digests": 2,
    "models": 2,
    "identity": 3,
    "inference": 3,
    "confidence": 4,
    "engines": 4,
    "evaluation": 5,
    "serving": 5,
    "tracking": 6,
    "asking": 6,
    "measuring": 6,
    "registry": 7,
    "outputs": 7,
    "cluster": 7,
    "config": 8,
    "composition": 9,
    "config_errors": 10,
    "completion": 11,
    "quick_composition": 11,
    "tasks": 11,
    "jobs": 12,
    "commands": 12,
    "main": 13,
    "cli": 14,
    "__main__": 15,
}
PURE = ("metrics", "quant", "data")
FORBIDDEN_BELOW = {"mlflow", "hydra", "omegaconf", "dvc", "lightning"}


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            package = ".".join(parts[:2])
            yield pytest.param(package if package in FLOORS else parts[0], path, id="/".join(parts))


@pytest.mark.parametrize(("package", "path"), list(modules()))
def test_imports_never_point_up(package, path):
    assert package in FLOORS, f"{package} has no floor; give it one"
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "reliabit" and rest and rest.split(".")[0] != package:
            other = rest if rest in FLOORS else rest.split(".")[0]
            assert FLOORS[other] < FLOORS[package], f"{path.name} on floor {package} imports {name}"
        if package in PURE:
            assert top not in FORBIDDEN_BELOW, f"{path.name} on the pure floor {package} imports {name}"


def test_only_one_lightning_is_imported():
    """`lightning.pytorch` and `pytorch_lightning` are both installed, and their classes are not the same."""
    for path in PACKAGE.rglob("*.py"):
        assert not any(name.startswith("pytorch_lightning") for name in imports_of(path)), path


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'mlflow', 'lightning', 'datasets', 'hydra', 'numpy'}"
    code = f"import sys, reliabit, reliabit.config, reliabit.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout


def test_nothing_pickled_is_read_and_no_remote_code_is_trusted():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, path
        assert "torch.load(" not in text, path
        assert not imports_of(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path
