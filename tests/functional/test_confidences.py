"""Confidence estimators as a user runs them: a cell with shifts, a transferred Selector, the stages one by one."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from functional.place import Place
from reliabit.confidence.selector_store import load_selector

SMALL = ["data.ask={dev: 30, val: 15, cal: 20, test: 30}", "evaluation.resamples=30", "trainer.threads=1"]
SHIFTED = [
    "data.shifts=[gaussian_noise_3,gaussian_noise_5,misleading]",
    "data.shift_images=6",
    "+data@other_data.scenes=scenes",
]


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("cell"))
    done = place.run("confidence=all", "quant.bits=2", "confidence.selector.seeds=[0,1]", *SMALL, *SHIFTED)
    assert done.returncode == 0, done.stderr
    return place


def test_every_estimator_is_measured_on_every_set(cell):
    (run,) = cell.runs("cell")
    metrics = run.data.metrics
    for confidence in ("selector", "selector_transfer", "platt", "isotonic", "logistic", "p_true", "image_information"):
        for where in ("", ".gaussian_noise_5", ".misleading", ".scenes", ".linguistic_mix_50"):
            assert 0 <= metrics[f"selective/aurc.{confidence}{where}"] <= 1
            low, high = (metrics[f"selective/aurc.{confidence}_minus_maxprob{where}.{end}"] for end in ("low", "high"))
            assert low <= high
    assert metrics["accuracy/mean.maxprob"] == metrics["accuracy/mean"]
    assert metrics["selective/aurc.selector_seeds_sd"] > 0
    # Platt scaling is monotone: it ranks as MaxProb does.
    assert metrics["selective/aurc.platt"] == pytest.approx(metrics["selective/aurc.maxprob"], abs=1e-9)


def test_each_says_what_it_costs(cell):
    (run,) = cell.runs("cell")
    forwards = {
        name: run.data.metrics[f"confidence/extra_forwards.{name}"]
        for name in ("maxprob", "selector", "p_true", "self_consistency", "image_information")
    }
    assert forwards == {"maxprob": 0, "selector": 0, "p_true": 1, "self_consistency": 10, "image_information": 1}
    assert run.data.metrics["confidence/fit_seconds.selector"] > 0
    assert run.data.metrics["efficiency/sampling_seconds"] > 0
    assert run.data.metrics["efficiency/image_information_seconds"] > 0


def test_tables_figures_and_the_selector_itself_are_artifacts(cell, tmp_path):
    (run,) = cell.runs("cell")
    client = MlflowClient(tracking_uri=cell.uri)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files >= {"confidences.md", "confidences.csv", "confidences.png", "shifts.png", "mixtures.png", "selectors"}
    folder = client.download_artifacts(run.info.run_id, "selectors/selector", str(tmp_path))
    assert load_selector(Path(folder)).val_aurc == run.data.metrics["confidence/val_aurc.selector"]


def test_what_trained_an_estimator_has_no_confidence(cell):
    table = pq.read_table(next(cell.folder.glob("output-1/predictions.parquet")))
    by_split = {row["split"]: row["conf_selector"] for row in table.to_pylist()}
    assert by_split.pop("dev") is None
    assert all(0 < value < 1 for value in by_split.values())


def test_reporting_on_what_an_estimator_has_seen_is_an_error(cell):
    path = next(cell.folder.glob("output-1/predictions.parquet"))
    done = cell.run("task=evaluate", f"task.predictions={path}", "evaluation.reported=dev")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "images of the split dev, which judges" in done.stderr


@pytest.mark.slow
def test_stages_one_by_one_give_the_same_numbers_as_the_pipeline(tmp_path):
    place, asked = Place(tmp_path), [*SMALL, "quant.bits=3"]
    assert place.run(*asked, f"paths.output={tmp_path}/whole").returncode == 0
    assert place.run("task=answer", *asked, f"paths.output={tmp_path}/answers").returncode == 0
    answers = f"task.predictions={tmp_path}/answers/predictions.parquet"
    done = place.run("task=select", *asked, answers, f"paths.output={tmp_path}/selected")
    assert done.returncode == 0, done.stderr
    selected = f"task.predictions={tmp_path}/selected/predictions.parquet"
    assert place.run("task=evaluate", *asked, selected, f"paths.output={tmp_path}/report").returncode == 0
    whole, staged = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "report"))
    assert staged == pytest.approx(whole, nan_ok=True)


def test_a_selector_without_its_splits_is_refused_before_anything_is_asked(tmp_path):
    done = Place(tmp_path).run("data.ask={dev: 0, val: 0, cal: 0, test: 5}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("leaves out dev and val; ask them, or set confidence=maxprob")
