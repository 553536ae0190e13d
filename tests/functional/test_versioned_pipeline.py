"""The versioned pipeline as a user runs it: `dvc repro` in a small copy of the project."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from functional.checkout import Checkout

pytestmark = pytest.mark.slow

WRITTEN = ["data", "calibration", "checkpoints", "results", "promotion"]
ONCE = ["prepare@easy_vqa", "calibrate@qwen2_vl_tiny-mbq", "baseline@qwen2_vl_tiny-easy_vqa"]
PROMOTE = "promote@qwen2_vl_tiny-easy_vqa"
SMALL = {
    "conf/data/easy_vqa.yaml": {
        "splits": {"train": 20, "dev": 60, "val": 20, "cal": 30, "test": 30},
        "ask": {"dev": None, "val": None, "cal": None, "test": None},
    },
    "conf/evaluation/default.yaml": {"resamples": 20},
    "conf/trainer/cpu.yaml": {"threads": 1, "progress_bar": False},
}
TASKS = ("quantize", "answer", "select", "evaluate")


class Copy(Checkout):
    """A project whose pipeline is small."""

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for folder in (*WRITTEN, "reports")
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
    for path, values in SMALL.items():
        copy.change(path, **values)
    quant = yaml.safe_load((copy.root / "conf/quant/mbq.yaml").read_text())
    copy.change(
        "conf/quant/mbq.yaml",
        calibration={**quant["calibration"], "images": 24, "contexts": 8},
        scaling={**quant["scaling"], "ratios": 3},
    )
    copy.change("conf/confidence/maxprob.yaml", selector={"epochs": 2})
    copy.set_bits(8, 4)
    copy.commit("A small project")
    return copy


@pytest.fixture(scope="module")
def first(copy):
    """The stages of the first `dvc repro`, and what it left."""
    return copy.repro(), copy.contents()


def test_the_first_repro_runs_every_stage_once_and_in_order(first):
    ran, contents = first
    assert sorted(ran) == sorted([*ONCE, *cells(8), *cells(4), PROMOTE])
    assert ran[0] == "prepare@easy_vqa"
    assert ran[-1] == PROMOTE
    for bits in (8, 4):
        result = f"results/qwen2_vl_tiny-mbq-{bits}bit-easy_vqa"
        assert (
            contents[f"reports/qwen2_vl_tiny-mbq-{bits}bit-easy_vqa.json"] == contents[f"{result}/report/headline.json"]
        )
        assert contents[f"{result}/report/risk_coverage.csv"].startswith(b"coverage,maxprob,selector\n")
        assert f"{result}/selected/selectors/selector/selector.safetensors" in contents
    curves = contents["reports/qwen2_vl_tiny-easy_vqa.csv"].decode().splitlines()
    assert list(dict.fromkeys(row.split(",")[0] for row in curves)) == ["cell", "none", "mbq·8b", "mbq·4b"]
    for name in ("choice.md", "choice.json", "pareto.png", "pareto_latency.png", "pareto_bits.png"):
        assert contents[f"promotion/qwen2_vl_tiny-easy_vqa/{name}"]
    choice = json.loads(contents["promotion/qwen2_vl_tiny-easy_vqa/choice.json"])
    assert [one["candidate"].split("·")[2:4] for one in choice["decisions"]] == [
        ["none", "s0"],
        ["mbq", "8b"],
        ["mbq", "4b"],
    ]
    assert any(name.startswith("calibration/qwen2_vl_tiny-mbq/calibration/") for name in contents)


def test_git_sees_the_numbers_alone_of_what_the_pipeline_wrote(copy, first):
    changed = copy.run("git", "status", "--porcelain").stdout.split()
    assert changed == ["??", "dvc.lock", "??", "reports/"]


def test_the_second_repro_does_nothing(copy, first):
    assert copy.repro() == []
    assert copy.contents() == first[1]


def test_metrics_and_plots_are_shown(copy, first, tmp_path):
    shown = copy.dvc("metrics", "show", "--json")
    assert shown.count('"certified C@5%"') == 3
    page = copy.dvc("plots", "show", "--out", str(tmp_path)).strip()
    assert "what the answers of each cell risk" in Path(page.removeprefix("file://")).read_text()


def test_an_unused_option_and_unused_code_change_nothing(copy, first):
    copy.change("conf/data/scenes.yaml", seed=7)
    with (copy.root / "src/reliabit/tracking/sweep/_tables.py").open("a") as file:
        file.write("\n# changed\n")
    assert copy.repro() == []


def test_another_width_runs_its_own_cells_alone(copy, first):
    copy.set_bits(8, 3)
    assert set(copy.repro()) == {*cells(3), PROMOTE}
    assert copy.repro() == []


def test_a_width_that_comes_back_is_restored_and_not_run(copy, first):
    copy.set_bits(8, 4)
    # The gate looks again: what lies in the folder of results is not what it was.
    assert copy.repro() == [PROMOTE]
    # Folders of the width that was tried meanwhile are still there.
    assert first[1].items() <= copy.contents().items()


def test_deleted_outputs_come_back_from_the_cache(copy, first):
    copy.forget(*WRITTEN)
    copy.dvc("checkout")
    assert copy.contents() == first[1]
    assert copy.repro() == []


def test_what_was_restored_has_its_runs_once(copy, first, tmp_path):
    copy.commit("What the pipeline wrote")
    store = [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"tracking.artifacts={tmp_path}/artifacts"]
    done = copy.reliabit("sync", *store)
    assert done.returncode == 0, done.stderr
    assert "3 cells of" in done.stdout
    again = copy.reliabit("sync", *store)
    assert "0 cells of" in again.stdout
    assert "3 were there" in again.stdout
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("reliabit").experiment_id])
    assert {run.info.run_name for run in runs} == {
        f"qwen2_vl_tiny·easy_vqa·{name}·s0" for name in ("none", "mbq·8b", "mbq·4b")
    }
    for run in runs:
        folder = run.info.run_name.replace("·easy_vqa", "").replace("·s0", "").replace("·", "-").removesuffix("b")
        folder = folder if folder.endswith("none") else f"{folder}bit"
        metrics = json.loads(first[1][f"results/{folder}-easy_vqa/report/metrics.json"])
        assert run.data.metrics["selective/aurc"] == metrics["selective/aurc"]
        assert run.data.metrics["efficiency/stored_bytes"] > 0
        assert (run.data.tags["dvc.dirty"], run.data.tags["git.dirty"]) == ("false", "false")
        assert {"predictions.parquet", "report.json", "fingerprint.json"} <= {
            found.path for found in client.list_artifacts(run.info.run_id)
        }
        assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["easy_vqa"]


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
