"""The parent run of a sweep: which one is gone on with, how many cells count, and what if somebody deletes it."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from reliabit.composition import register
from reliabit.errors import KilledError, ReliabitError
from reliabit.paths import conf_folder
from reliabit.tracking.sweep.parent import find_sweep, start_parent, sweep_to_resume
from reliabit.tracking.sweep.running import sweep_parent
from reliabit.tracking.tags import CELL_TAG, cell_tags_of
from tracking.stores import runs_of, store_at, tracker_at


@pytest.fixture
def tracker(tmp_path):
    return tracker_at(tmp_path)


def sweep_of(tracker, name, status=None):
    run = start_parent(tracker, overrides=[name])
    if status is not None:
        tracker.client.set_terminated(run.run_id, status)
    return run.run_id


def config_of(folder, *overrides):
    register()
    store = [f"tracking.{key}={value}" for key, value in store_at(folder).items()]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", overrides=[*store, *overrides], return_hydra_config=True)
    with open_dict(composed):
        composed.hydra.sweep.dir = str(folder / "sweep")
        composed.hydra.overrides.task = ["quant.bits=2,3"]
    return composed


def finish_one_and_interrupt(tracker, parent):
    with tracker.run("first", tags={CELL_TAG: "a"}, parent=parent):
        pass
    with tracker.run("second", tags={CELL_TAG: "b"}, parent=parent):
        raise KeyboardInterrupt


def delete_and_divide(tracker, parent):
    tracker.client.delete_run(parent)
    _ = 1 / 0


def test_the_last_unfinished_sweep_is_gone_on_with(tracker):
    stopped = sweep_of(tracker, "a", "FAILED")
    sweep_of(tracker, "b", "FINISHED")
    assert sweep_to_resume(tracker, "last").info.run_id == stopped
    killed = sweep_of(tracker, "c", "KILLED")
    # One that this very process runs is unfinished too, and nobody else's to go on with.
    running = sweep_of(tracker, "d")
    assert sweep_to_resume(tracker, "last").info.run_id == killed
    assert sweep_to_resume(tracker, stopped).info.run_id == stopped
    # A promotion looks at the last one, whatever became of it.
    assert find_sweep(tracker, "last").info.run_id == running


def test_the_sweep_of_a_dead_process_is_gone_on_with(tracker):
    run = start_parent(tracker, overrides=[])
    # No process has that id for long: it was born at another time.
    run.set_tags({"heartbeat.born": "0"})
    assert sweep_to_resume(tracker, "last").info.run_id == run.run_id


def test_where_no_sweep_is_unfinished_those_that_there_are_are_named(tracker):
    with pytest.raises(ReliabitError, match="none to go on with; run one first"):
        sweep_to_resume(tracker, "last")
    finished = [sweep_of(tracker, name, "FINISHED") for name in "abcd"]
    with pytest.raises(ReliabitError) as refused:
        sweep_to_resume(tracker, "last")
    assert [run_id in str(refused.value) for run_id in finished] == [False, True, True, True]
    assert "name one with sweep.resume=<id>" in str(refused.value)
    running = sweep_of(tracker, "e")
    with pytest.raises(ReliabitError, match=f"the sweep {running} is still running; wait for it, or stop it first"):
        sweep_to_resume(tracker, "last")


def test_a_deleted_sweep_is_said_to_be_deleted(tracker):
    sweep = sweep_of(tracker, "a", "FAILED")
    tracker.client.delete_run(sweep)
    with pytest.raises(
        ReliabitError, match=f"was deleted in the store; restore it .mlflow runs restore --run-id {sweep}"
    ):
        sweep_to_resume(tracker, sweep)
    tracker.client.restore_run(sweep)
    assert sweep_to_resume(tracker, sweep).info.run_id == sweep


def test_a_deleted_experiment_is_said_to_be_deleted(tracker, tmp_path):
    tracker.client.delete_experiment(tracker.experiment_id)
    message = rf"has the experiment {tracker.experiment_id} among its deleted ones; restore it \(mlflow experiments re"
    with pytest.raises(ReliabitError, match=message):
        tracker_at(tmp_path)
    # It went while a process had it open.
    with pytest.raises(ReliabitError, match=message):
        tracker.start("cell", tags={})


def test_a_run_that_is_deleted_while_it_is_written_is_said_to_be_deleted(tracker):
    run = tracker.start("cell", tags={})
    tracker.client.delete_run(run.run_id)
    with pytest.raises(ReliabitError, match=f"has the run {run.run_id} among its deleted ones; restore it"):
        run.log_metrics({"x": 1.0})


def test_the_closing_line_counts_the_cells_that_were_asked_for(tmp_path, capsys):
    tracker, config = tracker_at(tmp_path), config_of(tmp_path)
    with pytest.raises(KeyboardInterrupt), sweep_parent(config, asked=5) as parent:
        finish_one_and_interrupt(tracker, parent.run_id)
    said = capsys.readouterr().out
    assert f"1 of 5 cells finished; parent run {parent.run_id}\n" in said
    assert f" sweep.resume={parent.run_id}" in said
    recorded = tracker.client.get_run(parent.run_id)
    assert recorded.info.status == "FAILED"
    assert (recorded.data.metrics["sweep/cells"], recorded.data.metrics["sweep/finished"]) == (5, 1)


def test_one_run_counts_as_every_cell_that_it_is(tracker):
    first, second = (start_parent(tracker, overrides=[name]).run_id for name in "ab")
    with tracker.run("cell", tags={CELL_TAG: "a"}, parent=first) as run:
        pass
    for parent, cell in ((first, "a"), (first, "same inputs"), (second, "c")):
        tracker.adopt(run.run_id, parent=parent, cell=cell)
    assert cell_tags_of(tracker.children(first), parent=first) == {"a", "same inputs"}
    assert cell_tags_of(tracker.children(second), parent=second) == {"c"}


def test_a_parent_that_is_deleted_during_the_sweep_ends_it_in_a_sentence(tmp_path):
    with (
        pytest.raises(ReliabitError, match=r"was deleted in the store; restore it .* and go on with sweep.resume="),
        sweep_parent(config_of(tmp_path), asked=1) as parent,
    ):
        tracker_at(tmp_path).client.delete_run(parent.run_id)


def test_what_cut_a_sweep_short_is_told_even_where_it_cannot_be_closed(tmp_path):
    config = config_of(tmp_path)
    with pytest.raises(ZeroDivisionError), sweep_parent(config, asked=1) as parent:
        delete_and_divide(tracker_at(tmp_path), parent.run_id)


def test_a_sweep_without_a_cell_leaves_no_parent(tmp_path):
    with pytest.raises(ReliabitError, match="stop"), sweep_parent(config_of(tmp_path), asked=1):
        raise ReliabitError("stop")
    assert runs_of(tracker_at(tmp_path)) == []


def test_a_sweep_whose_cells_were_killed_before_they_recorded_can_be_gone_on_with(tmp_path):
    with pytest.raises(KilledError), sweep_parent(config_of(tmp_path), asked=4) as parent:
        raise KilledError("the job 1_0 of a cell ended as FAILED")
    tracker = tracker_at(tmp_path)
    assert tracker.client.get_run(parent.run_id).info.status == "FAILED"
    assert sweep_to_resume(tracker, "last").info.run_id == parent.run_id


def test_an_attempt_of_a_job_that_was_queued_again_is_taken_out_of_its_sweep(tracker, monkeypatch):
    parent = start_parent(tracker, overrides=["quant.bits=2"]).run_id
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    jobs = {"earlier": "17", "elsewhere": "18"}
    runs = {
        name: tracker.start(name, tags={CELL_TAG: "a", "slurm.job_id": job}, parent=parent)
        for name, job in jobs.items()
    }
    tracker.supersede("a", parent=parent)
    assert len(tracker.children(parent)) == 2
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    tracker.supersede("a", parent=parent)
    # The other one may still be alive.
    assert [run.info.run_id for run in tracker.children(parent)] == [runs["elsewhere"].run_id]
    assert tracker.client.get_run(runs["earlier"].run_id).info.status == "KILLED"
