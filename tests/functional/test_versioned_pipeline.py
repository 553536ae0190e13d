"""The versioned pipeline as a user runs it: `dvc repro` in a small copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
COPIED = [
    *("conf", "src", "models/qwen2_vl_tiny", "dvc.yaml", "params.yaml"),
    *(".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"),
]
WRITTEN = ["data", "calibration", "checkpoints", "results"]
SMALL = {
    "conf/data/easy_vqa.yaml": {
        "splits": {"train": 20, "dev": 60, "val": 20, "cal": 30, "test": 30},
        "ask": {"dev": None, "val": None, "cal": None, "test": None},
    },
    "conf/evaluation/default.yaml": {"resamples": 20},
    "conf/trainer/cpu.yaml": {"threads": 1, "progress_bar": False},
}
TASKS = ("quantize", "answer", "select", "evaluate")


class Copy:
    """A small project of its own, under git."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "PYTHONPATH")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(command, capture_output=True, text=True, cwd=self.root, env=environment, check=False)

    def dvc(self, *arguments: str) -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self) -> list[str]:
        """The stages that ran."""
        return re.findall(r"^Running stage '([^']+)'", self.dvc("repro"), re.MULTILINE)

    def change(self, path: str, **values) -> None:
        file = self.root / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}, sort_keys=False))

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for folder in WRITTEN
            for path in (self.root / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def forget(self, *folders: str) -> None:
        for folder in folders:
            shutil.rmtree(self.root / folder)

    def set_bits(self, *bits: int) -> None:
        pipeline = yaml.safe_load((self.root / "params.yaml").read_text())["pipeline"]
        self.change("params.yaml", pipeline={**pipeline, "quantizers": ["mbq"], "bits": list(bits)})


def cells(bits: int) -> set[str]:
    width = f"qwen2_vl_tiny-mbq-{bits}"
    return {f"{task}@{width}" if task == "quantize" else f"{task}@{width}-easy_vqa" for task in TASKS}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    copy = Copy(tmp_path_factory.mktemp("pipeline") / "project")
    for name in COPIED:
        source, target = PROJECT / name, copy.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for path, values in SMALL.items():
        copy.change(path, **values)
    quant = yaml.safe_load((copy.root / "conf/quant/mbq.yaml").read_text())
    copy.change(
        "conf/quant/mbq.yaml",
        calibration={**quant["calibration"], "images": 24, "contexts": 8},
        scaling={**quant["scaling"], "ratios": 3},
    )
    selector = yaml.safe_load((copy.root / "conf/confidence/maxprob.yaml").read_text())["selector"]
    copy.change("conf/confidence/maxprob.yaml", selector={**selector, "epochs": 2})
    copy.set_bits(8, 4)
    for command in (["init", "--quiet"], ["add", "--all"]):
        assert copy.run("git", *command).returncode == 0
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    assert copy.run("git", *author, "commit", "--quiet", "--message", "A small project").returncode == 0
    return copy


@pytest.fixture(scope="module")
def first(copy):
    """The stages of the first `dvc repro`, and what it left."""
    return copy.repro(), copy.contents()


def test_the_first_repro_runs_every_stage_once_and_in_order(first):
    ran, contents = first
    once = ["prepare@easy_vqa", "calibrate@qwen2_vl_tiny-mbq"]
    assert sorted(ran) == sorted([*once, *cells(8), *cells(4)])
    assert ran[:2] == once
    for bits in (8, 4):
        result = f"results/qwen2_vl_tiny-mbq-{bits}bit-easy_vqa"
        assert contents[f"{result}/metrics.json"] == contents[f"{result}/report/metrics.json"]
        assert contents[f"{result}/risk_coverage.csv"].startswith(b"coverage,maxprob,selector\n")
        assert f"{result}/selected/selectors/selector/selector.safetensors" in contents
    assert any(name.startswith("calibration/qwen2_vl_tiny-mbq/calibration/") for name in contents)


def test_git_sees_nothing_of_what_the_pipeline_wrote(copy, first):
    changed = copy.run("git", "status", "--porcelain").stdout.split()
    assert changed == ["??", "dvc.lock"]


def test_the_second_repro_does_nothing(copy, first):
    assert copy.repro() == []
    assert copy.contents() == first[1]


def test_metrics_and_plots_are_shown(copy, first, tmp_path):
    shown = copy.dvc("metrics", "show", "--json")
    assert shown.count('"selective/aurc"') == 2
    page = copy.dvc("plots", "show", "--out", str(tmp_path)).strip()
    assert "Risk of the questions that MaxProb answers" in Path(page.removeprefix("file://")).read_text()


def test_an_unused_option_and_unused_code_change_nothing(copy, first):
    copy.change("conf/data/scenes.yaml", seed=7)
    with (copy.root / "src/reliabit/tracking/summary.py").open("a") as file:
        file.write("\n# changed\n")
    assert copy.repro() == []


def test_another_width_runs_its_own_cells_alone(copy, first):
    copy.set_bits(8, 3)
    assert set(copy.repro()) == cells(3)
    assert copy.repro() == []


def test_a_width_that_comes_back_is_restored_and_not_run(copy, first):
    copy.set_bits(8, 4)
    assert copy.repro() == []
    # Folders of the width that was tried meanwhile are still there.
    assert first[1].items() <= copy.contents().items()


def test_deleted_outputs_come_back_from_the_cache(copy, first):
    copy.forget(*WRITTEN)
    copy.dvc("checkout")
    assert copy.contents() == first[1]
    assert copy.repro() == []


def test_a_remote_brings_back_what_was_pushed(copy, first):
    copy.dvc("push", "--remote", "example")
    assert (copy.root.parent / "reliabit-dvc" / "files" / "md5").is_dir()
    copy.forget(*WRITTEN, ".dvc/cache")
    copy.dvc("pull", "--remote", "example")
    assert copy.contents() == first[1]
    assert copy.repro() == []


def test_a_quantizer_that_reads_no_data_leaves_a_note_where_statistics_would_be(copy, tmp_path):
    done = copy.run(sys.executable, "src/run.py", "task=calibrate", "hydra=stage", f"paths.cache={tmp_path}")
    assert done.returncode == 0, done.stderr
    (note,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert note.read_text() == "quant=hqq learns nothing from data: there is nothing to calibrate.\n"
