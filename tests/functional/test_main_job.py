"""The main job as a user runs it: a sweep in a process of its own, on the committed reference models."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from evaluation.sweep_report.test_page import contents_of
from functional.place import Place
from launching import PROJECT, run_python

SMALL = ["data.ask={dev: 40, val: 10, cal: 100, test: 40}", "evaluation.resamples=50"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("sweep"), report="full")
    done = place.run("-m", "quant.bits=2,3,4,8", *SMALL)
    assert done.returncode == 0, done.stderr
    return place, done


def by_bits(place):
    return {int(run.data.tags["bits"]): run for run in place.runs("cell")}


def test_the_sweep_ends_with_five_finished_cells(sweep):
    place, _ = sweep
    cells = by_bits(place)
    assert sorted(cells) == [2, 3, 4, 8, 16]
    assert {run.info.status for run in cells.values()} == {"FINISHED"}
    assert {bits: run.info.run_name for bits, run in cells.items()} == {
        16: "qwen2_vl_tiny·easy_vqa·none·s0",
        **{bits: f"qwen2_vl_tiny·easy_vqa·hqq·{bits}b·s0" for bits in (2, 3, 4, 8)},
    }


def test_the_table_stands_in_the_terminal_and_on_the_parent(sweep):
    place, done = sweep
    (parent,) = place.runs("sweep")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in place.runs("cell")} == {parent.info.run_id}
    names = [f"qwen2_vl_tiny·easy_vqa·{rest}·s0" for rest in ("none", "hqq·8b", "hqq·4b", "hqq·3b", "hqq·2b")]
    table, _, differences = done.stdout.partition("confidence selector")[2].partition("Paired differences")
    short = ["none", "hqq·8b", "hqq·4b", "hqq·3b", "hqq·2b"]
    for shown, rows in ((table, short), (differences, short[1:])):
        found = [line.split()[0] for line in shown.splitlines() if line.startswith(("none", "hqq"))]
        assert found == rows
    path = MlflowClient(tracking_uri=place.uri).download_artifacts(parent.info.run_id, "summary.md")
    lines = Path(path).read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == names


def test_the_sweep_ends_with_its_report_and_the_command_makes_it_again(sweep, tmp_path):
    place, done = sweep
    (parent,) = place.runs("sweep")
    client = MlflowClient(tracking_uri=place.uri)
    recorded = Path(client.download_artifacts(parent.info.run_id, "report.html")).read_text()
    printed = re.search(r"^  report +(\S+)$", done.stdout, re.MULTILINE)[1]
    assert (PROJECT / printed).read_text() == recorded
    assert "artifacts/report.html?" in parent.data.tags["mlflow.note.content"]
    written = tmp_path / "again.html"

    again = run_python("-m", "reliabit", "report", parent.info.run_id, *place.placed(), "--file", str(written))
    assert again.returncode == 0, again.stderr
    found = contents_of(written.read_text())["families"][0]
    [family] = contents_of(recorded)["families"]
    assert family["cells"] == found["cells"]
    assert family["pictures"]
    missing = run_python("-m", "reliabit", "report", "nowhere", *place.placed())
    assert missing.returncode == 2
    assert "there is no sweep nowhere" in missing.stderr


def test_a_finished_cell_is_found_without_what_computes(sweep):
    place, _ = sweep
    done = run_python("-X", "importtime", "src/run.py", "quant.bits=4", *SMALL, *place.placed())
    assert "is finished already" in done.stdout, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "reliabit.tracking.store.sqlite" in imported
    assert not {"mlflow", "torch", "transformers", "lightning", "datasets"} & imported


def test_fewer_bits_take_less_and_are_less_sure(sweep):
    cells = by_bits(sweep[0])
    stored = [cells[bits].data.metrics["efficiency/stored_bytes"] for bits in (2, 3, 4, 8, 16)]
    assert stored == sorted(stored)
    effective = {bits: run.data.metrics["efficiency/effective_bits"] for bits, run in cells.items()}
    # Groups of 64 share a scale and a zero of 16 bits each: half a bit a weight.
    assert effective == pytest.approx({2: 2.5, 3: 3.5, 4: 4.5, 8: 8.5, 16: 16})
    accuracy = {bits: run.data.metrics["accuracy/mean"] for bits, run in cells.items()}
    assert accuracy[2] < accuracy[16]
    assert accuracy[8] == pytest.approx(accuracy[16], abs=0.02)
    assert cells[2].data.metrics["selective/aurc"] > cells[16].data.metrics["selective/aurc"]


def test_every_cell_carries_its_configuration_predictions_and_figures(sweep):
    place, _ = sweep
    client = MlflowClient(tracking_uri=place.uri)
    for bits, run in by_bits(place).items():
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files >= {
            "config.yaml",
            "metrics.json",
            "report.json",
            "predictions.parquet",
            "reliability_diagram.png",
            "risk_coverage.png",
            "confidence_histogram.png",
            "effective_reliability.png",
        }
        assert run.data.params["data.name"] == "easy_vqa"
        assert run.data.params["quant.bits"] == ("None" if bits == 16 else str(bits))
        table = pq.read_table(client.download_artifacts(run.info.run_id, "predictions.parquet"))
        splits = Counter(table["split"].to_pylist())
        assert splits["test"] == run.data.metrics["accuracy/questions"]
        assert splits["cal"] == 100
        test = [row["accuracy"] for row in table.to_pylist() if row["split"] == "test"]
        assert run.data.metrics["accuracy/mean"] == pytest.approx(sum(test) / len(test))
        assert run.data.metrics["accuracy/mean.low"] <= sum(test) / len(test) <= run.data.metrics["accuracy/mean.high"]
        if bits != 16:
            converted = Path(client.download_artifacts(run.info.run_id, "converted_modules.txt")).read_text().split()
            kinds = (
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            )
            assert sorted(converted) == sorted(
                f"model.language_model.layers.{layer}.{kind}" for layer in (0, 1) for kind in kinds
            )
            kernels = json.loads(Path(client.download_artifacts(run.info.run_id, "kernels.json")).read_text())
            assert kernels == dict.fromkeys(converted, "eager")
            assert run.data.metrics["efficiency/layers_eager"] == len(converted)


def test_all_cells_answer_the_same_questions(sweep):
    place, _ = sweep
    client = MlflowClient(tracking_uri=place.uri)
    asked = {
        tuple(
            pq.read_table(client.download_artifacts(run.info.run_id, "predictions.parquet"))["question_id"].to_pylist()
        )
        for run in place.runs("cell")
    }
    assert len(asked) == 1


def test_differences_to_the_baseline_stand_on_the_parent(sweep):
    place, _ = sweep
    (parent,) = place.runs("sweep")
    client = MlflowClient(tracking_uri=place.uri)
    path = client.download_artifacts(parent.info.run_id, "differences.qwen2_vl_tiny.easy_vqa.md")
    text = Path(path).read_text()
    assert text.startswith("Differences to qwen2_vl_tiny·easy_vqa·none·s0")
    assert sum(line.startswith("| qwen2_vl_tiny·easy_vqa·hqq") for line in text.splitlines()) == 4
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"pareto.png", "pareto.md", "pareto.csv", "risk_coverage.qwen2_vl_tiny.easy_vqa.png"} <= files
    assert {f"slice_changes.qwen2_vl_tiny.easy_vqa.{kind}" for kind in ("md", "csv", "png")} <= files
    changes = Path(client.download_artifacts(parent.info.run_id, "slice_changes.qwen2_vl_tiny.easy_vqa.csv"))
    assert {"question_type", "image_brightness"} <= {line.split(",")[2] for line in changes.read_text().splitlines()}
    assert "**Slices.**" in client.get_run(parent.info.run_id).data.tags["mlflow.note.content"]
    path = client.download_artifacts(parent.info.run_id, "slices.qwen2_vl_tiny.easy_vqa.md")
    assert "| qwen2_vl_tiny·easy_vqa·hqq·2b·s0 | question_type | accuracy/mean |" in Path(path).read_text()


def test_a_run_can_be_compared_with_another(sweep):
    place, _ = sweep
    cells = by_bits(place)
    compared = [f"task.predictions=runs:/{cells[2].info.run_id}", f"task.baseline=runs:/{cells[16].info.run_id}"]
    done = place.run("task=evaluate", *compared, "evaluation.resamples=50")
    assert done.returncode == 0, done.stderr
    difference = 100 * (cells[2].data.metrics["accuracy/mean"] - cells[16].data.metrics["accuracy/mean"])
    assert f"| this | {difference:+.2f} [" in done.stdout


def test_a_recorded_table_can_be_evaluated_again_without_a_model(sweep, tmp_path):
    place, _ = sweep
    run = by_bits(place)[3]
    path = MlflowClient(tracking_uri=place.uri).download_artifacts(
        run.info.run_id, "predictions.parquet", str(tmp_path)
    )
    again = Place(tmp_path)
    done = again.run("task=evaluate", f"task.predictions={path}", "model.path=nowhere", "evaluation.resamples=50")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((again.output / "metrics.json").read_text())
    for name, value in metrics.items():
        assert value is None or run.data.metrics[name] == pytest.approx(value)


def test_a_failed_cell_fails_the_sweep_and_spares_the_others(tmp_path):
    place = Place(tmp_path)
    shutil.copytree(PROJECT / "models" / "qwen2_vl_tiny", tmp_path / "lost")
    # Nothing but answering tells that a weight is lost.
    weights = load_file(tmp_path / "lost" / "model.safetensors")
    lost = next(name for name in weights if "layers.1.mlp.down_proj" in name)
    weights[lost] = torch.full_like(weights[lost], torch.inf)
    save_file(weights, tmp_path / "lost" / "model.safetensors", metadata={"format": "pt"})
    done = place.run(
        "-m",
        f"model.path={PROJECT}/models/qwen2_vl_tiny,{tmp_path}/lost",
        "quant=none",
        *SMALL,
        "data.ask={test: 5, val: 0, cal: 0}",
        "confidence=maxprob",
    )
    assert done.returncode == 2
    assert "the model's numbers are not finite" in done.stderr.strip().splitlines()[-1]
    assert "1 of 2 cells finished" in done.stdout
    assert sorted(run.info.status for run in place.runs("cell")) == ["FAILED", "FINISHED"]
    (parent,) = place.runs("sweep")
    assert parent.info.status == "FAILED"


@pytest.mark.slow
def test_cells_that_were_asked_other_questions_are_compared_with_their_own_baseline(tmp_path):
    place = Place(tmp_path)
    asked = ["data.ask.test=4,6", "data.ask.val=0", "data.ask.cal=0", "evaluation.resamples=20", "confidence=maxprob"]
    done = place.run("-m", "quant.bits=2", *asked)
    assert done.returncode == 0, done.stderr
    (parent,) = place.runs("sweep")
    assert parent.info.status == "FINISHED"
    files = {file.path for file in MlflowClient(tracking_uri=place.uri).list_artifacts(parent.info.run_id)}
    assert files >= {"differences.qwen2_vl_tiny.easy_vqa.md", "differences.qwen2_vl_tiny.easy_vqa.2.md"}


@pytest.mark.slow
def test_the_second_family_quantizes_to_a_checkpoint_that_answers(tmp_path):
    place = Place(tmp_path)
    model = [
        "model=idefics3_tiny",
        "data=scenes",
        "data.splits={test: 8, train: 0, dev: 0, val: 0, cal: 0}",
        "data.ask={test: 8, val: 0, cal: 0}",
        "confidence=maxprob",
    ]
    done = place.run("task=quantize", *model, "quant.bits=4", f"task.checkpoint={tmp_path}/quantized")
    assert done.returncode == 0, done.stderr
    expected = place.run("task=footprint", *model, "quant.bits=4")
    written = (tmp_path / "quantized" / "model.safetensors").stat().st_size
    predicted = int(re.search(r"(\d+) bytes as one file", expected.stdout)[1])
    assert predicted == pytest.approx(written, rel=0.01)
    answered = place.run("task=answer", *model, "quant=none", f"model.path={tmp_path}/quantized")
    assert answered.returncode == 0, answered.stderr
    assert pq.read_table(place.output / "predictions.parquet").num_rows == 80


def test_a_corrupt_data_set_leaves_nothing_behind(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "set" / part / "images").mkdir(parents=True)
        (tmp_path / "set" / part / "questions.json").write_text(json.dumps([["is it red?", "yes", 0]]))
        (tmp_path / "set" / part / "images" / "0.png").write_bytes(b"broken")
    place = Place(tmp_path)
    done = place.run(
        "task=prepare",
        f"data.root={tmp_path}/set",
        "data.splits={test: 1, train: 0, dev: 0, val: 0, cal: 0}",
        "data.ask={test: 1, val: 0, cal: 0}",
    )
    assert done.returncode == 2
    assert "cannot be decoded" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_a_reference_model_can_be_trained_and_then_answers(tmp_path):
    """The smoke form of `task=pretrain`: four steps, from nothing to a checkpoint that the main job loads."""
    place = Place(tmp_path)
    few = "{train: 8, val: 2, test: 2, dev: 0, cal: 0}"
    recipe = ["steps=4", "epoch_steps=2", "images=4", "first_steps=2", "validation_images=2", "warmup_steps=1"]
    done = place.run(
        "task=pretrain",
        f"model.path={tmp_path}/trained",
        f"paths.root={tmp_path}",
        *(f"task.recipe.{part}" for part in recipe),
        *(f"task.recipe.data.{name}.splits={few}" for name in ("easy_vqa", "scenes")),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "trained" / "training.json").read_text())
    assert record["recipe"]["steps"] == 4
    assert set(record["trained_on"]) == {"easy_vqa", "scenes"}
    again = place.run("task=pretrain", f"model.path={tmp_path}/trained")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    data = [f"data.splits={few}", "data.ask={test: 2, val: 0, cal: 0}", "confidence=maxprob"]
    answered = place.run("task=answer", "quant=none", f"model.path={tmp_path}/trained", *data)
    assert answered.returncode == 0, answered.stderr
