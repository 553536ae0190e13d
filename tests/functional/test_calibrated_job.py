"""Data-aware quantization as a user runs it: calibrated once, shared by the cells of a sweep."""

import json

import pytest
from mlflow import MlflowClient

from functional.place import Place

SMALL = ["data.ask={val: 10, cal: 20, test: 20}", "evaluation.resamples=50", "confidence=maxprob"]
CALIBRATION = ["quant.calibration.images=32", "quant.scaling.ratios=5"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("calibrated"))


def test_a_sweep_calibrates_once_for_all_its_cells(place):
    done = place.run("-m", "quant=awq,mbq", "quant.bits=3", *CALIBRATION, *SMALL)
    assert done.returncode == 0, done.stderr
    (folder,) = (entry for entry in (place.folder / "cache" / "calibration").iterdir() if entry.is_dir())
    record = json.loads((folder / "statistics.json").read_text())
    assert record["sequences"] == 32
    client = MlflowClient(tracking_uri=f"sqlite:///{place.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("reliabit")
    cells = client.search_runs([experiment.experiment_id], filter_string="tags.kind = 'cell'")
    assert sorted((cell.data.tags["quant"], cell.data.tags["bits"]) for cell in cells) == [
        ("awq", "3"), ("mbq", "3"), ("none", "16"),
    ]  # fmt: skip
    assert {cell.info.status for cell in cells} == {"FINISHED"}


@pytest.mark.slow
def test_all_quantizers_run_at_all_small_widths(place):
    done = place.run("-m", "quant=rtn,hqq,awq,mbq,gptq", "quant.bits=2,3,4", *CALIBRATION, *SMALL)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{place.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("reliabit")
    cells = client.search_runs([experiment.experiment_id], filter_string="tags.kind = 'cell'")
    found = {(cell.data.tags["quant"], cell.data.tags["bits"]) for cell in cells if cell.info.status == "FINISHED"}
    assert found >= {(quant, bits) for quant in ("rtn", "hqq", "awq", "mbq", "gptq") for bits in ("2", "3", "4")}


def test_a_scaled_checkpoint_says_what_was_chosen(place):
    done = place.run("task=quantize", "quant=mbq", "quant.bits=3", f"task.checkpoint={place.folder}/ck", *CALIBRATION)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exponent") == 8
    assert "14 modules at 3.50 bits a weight" in done.stdout
    assert len([entry for entry in (place.folder / "cache" / "calibration").iterdir() if entry.is_dir()]) == 1


def test_a_calibration_set_of_chats_needs_both_places(place):
    done = place.run("quant=mbq", "quant.calibration.chat=x.json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "quant.calibration.chat and quant.calibration.chat_images go together; set both or neither" in done.stderr
