"""Sweeps that are killed and go on, and cells that are finished already, in processes of their own."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from functional.place import Place
from launching import PROJECT

SMALL = [
    "data.ask={dev: 0, val: 20, cal: 40, test: 30}",
    "confidence=maxprob",
    "evaluation.resamples=30",
    "trainer.threads=1",
]
SWEEP = ["-m", "quant.bits=2,3", *SMALL]
COMPARED = ("accuracy/mean", "selective/aurc", "calibration/ece_15", "selective/augrc.high")


def numbers(place):
    """The metrics of each cell by name; every cell once, or the test is over."""
    runs = place.runs("cell")
    names = [run.info.run_name for run in runs]
    assert len(set(names)) == len(names), names
    return {run.info.run_name: {name: run.data.metrics[name] for name in COMPARED} for run in runs}


def statuses(place):
    client = MlflowClient(tracking_uri=place.uri)
    experiment = client.get_experiment_by_name("reliabit")
    return sorted(run.info.status for run in client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    done = place.run(*SWEEP)
    assert done.returncode == 0, done.stderr
    return place, numbers(place)


def test_a_finished_sweep_is_not_repeated(undisturbed):
    place, expected = undisturbed
    before = {run.info.run_id for run in place.runs("cell")}
    done = place.run(*SWEEP)
    assert done.returncode == 0, done.stderr
    assert {run.info.run_id for run in place.runs("cell")} == before
    assert done.stdout.count("is finished already") == 3
    assert "3 of 3 cells finished" in done.stdout
    assert "reused" in done.stdout
    assert numbers(place) == expected


def test_a_changed_value_is_not_taken_for_the_same(undisturbed):
    place, _ = undisturbed
    before = {run.info.run_id for run in place.runs("cell")}
    done = place.run("quant.bits=3", *SMALL, "quant.group_size=32")
    assert done.returncode == 0, done.stderr
    new = [run for run in place.runs("cell") if run.info.run_id not in before]
    assert len(new) == 1
    metrics = new[0].data.metrics
    accuracy, low, high = (100 * metrics[f"accuracy/mean{end}"] for end in ("", ".low", ".high"))
    said = [line.split() for line in done.stdout.splitlines()]
    assert ["accuracy", f"{accuracy:.1f}", "%", f"[{low:.1f},", f"{high:.1f}]"] in said
    assert ["stored", f"{metrics['efficiency/stored_bytes'] / 2**20:.2f}", "MiB"] in said
    assert any(line[:1] == ["folder"] and Path(line[1]) == place.output for line in said)
    assert any(line[:1] == ["run"] and f"/runs/{new[0].info.run_id}?" in line[1] for line in said)
    assert any(line[:4] == ["next", "python", "src/run.py", "-m"] for line in said)
    MlflowClient(tracking_uri=place.uri).delete_run(new[0].info.run_id)


def test_force_repeats(undisturbed):
    place, expected = undisturbed
    before = {run.info.run_id for run in place.runs("cell")}
    done = place.run("quant.bits=3", *SMALL, "sweep.force=true")
    assert done.returncode == 0, done.stderr
    new = [run for run in place.runs("cell") if run.info.run_id not in before]
    assert [{name: run.data.metrics[name] for name in COMPARED} for run in new] == [expected[new[0].info.run_name]]
    MlflowClient(tracking_uri=place.uri).delete_run(new[0].info.run_id)


def start(place, *arguments):
    placed = place.placed()
    return subprocess.Popen(
        [sys.executable, "src/run.py", *arguments, *placed],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_at(place, seconds, *arguments):
    """Start a sweep and kill it, all its processes, unless it ends before."""
    process = start(place, *arguments)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def resume(place):
    # One may be killed when it has closed its sweep, and then there is nothing to go on with.
    unfinished = place.has_store() and any(run.info.status != "FINISHED" for run in place.runs("sweep"))
    return ["sweep.resume=last"] if unfinished else SWEEP


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_if_undisturbed(undisturbed, tmp_path):
    """Twenty kills at random moments, over as many sweeps as that takes."""
    place, expected = Place(tmp_path / "0"), undisturbed[1]
    draw, kills, sweeps, began = random.Random(0), 0, 0, time.monotonic()
    while kills < 20:
        killed = kill_at(place, draw.uniform(2, 20), *resume(place))
        kills += killed
        if killed and draw.random() < 0.7:
            continue
        done = place.run(*resume(place))
        assert done.returncode == 0, done.stderr
        assert numbers(place) == expected
        assert set(statuses(place)) == {"FINISHED"}
        assert len(place.runs("sweep")) <= 2
        sweeps += 1
        place = Place(tmp_path / str(sweeps))
    assert time.monotonic() - began < 3600


@pytest.mark.slow
def test_a_killed_sweep_goes_on(undisturbed, tmp_path):
    place, expected = Place(tmp_path), undisturbed[1]
    process = start(place, *SWEEP)
    while not (place.has_store() and any(run.info.status == "RUNNING" for run in place.runs("cell"))):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "RUNNING" in statuses(place)
    done = place.run("sweep.resume=last")
    assert done.returncode == 0, done.stderr
    assert "closed the run" in done.stdout
    assert numbers(place) == expected
    assert statuses(place) == ["FINISHED"] * 4


def test_a_sweep_to_go_on_with_must_be_there(undisturbed):
    place, _ = undisturbed
    for arguments in (["sweep.resume=nothing"], ["-m", "quant.bits=2", *SMALL, "sweep.resume=nothing"]):
        done = place.run(*arguments)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("error: there is no sweep nothing in")


@pytest.mark.slow
def test_the_cells_after_a_failed_one_run_or_not(tmp_path):
    for choice, states in (("stop", ["FAILED"]), ("continue", ["FAILED", "FINISHED"])):
        place = Place(tmp_path / choice)
        models = f"model.path={silent_model(tmp_path / choice)},{PROJECT}/models/qwen2_vl_tiny"
        done = place.run("-m", models, "quant=none", *SMALL, f"sweep.on_failure={choice}")
        assert done.returncode == 2
        assert sorted(run.info.status for run in place.runs("cell")) == states


def silent_model(folder):
    """A checkpoint that nothing but asking it tells to be broken: its files are whole, and its numbers are none."""
    shutil.copytree(PROJECT / "models" / "qwen2_vl_tiny", folder / "model")
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, path, metadata={"format": "pt"})
    return folder / "model"


@pytest.mark.slow
def test_what_failed_is_made_good(tmp_path):
    place, model = Place(tmp_path), silent_model(tmp_path)
    small = [f"model.path={model}", "quant=none,rtn", "quant.bits=4", *SMALL]
    for attempt in (["-m", *small], ["sweep.resume=last"]):
        assert place.run(*attempt).returncode == 2
        assert statuses(place) == ["FAILED"] * 3
    shutil.copytree(PROJECT / "models" / "qwen2_vl_tiny", model, dirs_exist_ok=True)
    done = place.run("sweep.resume=last")
    assert done.returncode == 0, done.stderr
    assert statuses(place) == ["FINISHED"] * 3


@pytest.mark.slow
def test_six_that_start_at_once_in_a_fresh_folder_all_succeed(tmp_path):
    place = Place(tmp_path)
    small = ["quant=none", "data.ask={dev: 0, val: 5, cal: 5, test: 4}", *SMALL[1:]]
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(place.run, *small, f"seed={seed}", f"paths.output={tmp_path}/{seed}") for seed in range(6)]
    assert [run.result().returncode for run in runs] == [0] * 6, [run.result().stderr[-500:] for run in runs]
    assert statuses(place) == ["FINISHED"] * 6
