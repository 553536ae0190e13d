"""Pareto fronts from recorded cells: who belongs together, by which confidence, and what stays of a reused run."""

import pytest

from registry.measured import costs, table
from registry.test_policy import composed
from reliabit.evaluation.pareto_points import STORED
from reliabit.inference.predictions import COLUMNS, PREDICTIONS, write_predictions
from reliabit.tracking.recorded_predictions import recorded_predictions
from reliabit.tracking.sweep_pareto import pareto_of_sweep
from tracking.stores import tracker_at


@pytest.fixture(scope="module")
def policy():
    return composed("registry.resamples=50").registry


def answers(accuracy, *, selector):
    import pyarrow as pa

    found = table(accuracy=accuracy, images={"test": 40, "val": 40, "cal": 60})
    for name, kind in COLUMNS.items():
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, pa.type_for_alias(kind)))
    return found.append_column("conf_selector", found["conf_maxprob"]) if selector else found


def record(tracker, folder, name, *, accuracy=0.9, bits=4, model="tiny", selector=True, efficiency=None):
    write_predictions(answers(accuracy, selector=selector), folder / PREDICTIONS)
    with tracker.run(name, tags={"kind": "cell", "model": model, "data": "easy_vqa"}) as run:
        run.log_parameters({"quant": {"bits": bits}, "model": {"name": model}, "seed": 0})
        run.log_metrics(costs(stored=bits) if efficiency is None else efficiency)
        run.log_file(folder / PREDICTIONS)
    return tracker.client.get_run(run.run_id)


def test_each_model_has_its_own_front(tmp_path, policy):
    tracker = tracker_at(tmp_path)
    runs = [
        record(tracker, tmp_path, "tiny·none·s0", bits=16),
        record(tracker, tmp_path, "tiny·hqq·4b·s0", bits=4),
        record(tracker, tmp_path, "tiny·hqq·8b·s0", bits=8, accuracy=0.7),
        record(tracker, tmp_path, "other·none·s0", bits=16, model="other", selector=False),
        record(tracker, tmp_path, "other·old·s0", bits=8, model="other", efficiency={"accuracy/mean": 0.5}),
    ]
    with recorded_predictions(tracker) as predictions:
        fronts = pareto_of_sweep(runs, predictions=predictions, policy=policy)
    assert list(fronts) == ["tiny · easy_vqa", "other · easy_vqa"]
    tiny, other = fronts.values()
    assert [point.name for point in tiny.points] == ["tiny·none·s0", "tiny·hqq·8b·s0", "tiny·hqq·4b·s0"]
    assert [point.costs[STORED] for point in tiny.points] == [bits * 2**20 for bits in (16, 8, 4)]
    assert tiny.places["tiny·hqq·8b·s0"].by == ("tiny·hqq·4b·s0",)
    assert (tiny.settings.confidence, other.settings.confidence) == ("selector", "maxprob")
    assert [point.name for point in other.points] == ["other·none·s0"]


def test_sets_of_cells_that_differ_in_more_are_numbered(tmp_path, policy):
    tracker = tracker_at(tmp_path)
    runs = [record(tracker, tmp_path, "tiny·none·s0"), record(tracker, tmp_path, "tiny·none·s1")]
    runs[1].data.params["seed"] = "1"
    with recorded_predictions(tracker) as predictions:
        fronts = pareto_of_sweep(runs, predictions=predictions, policy=policy)
    assert list(fronts) == ["tiny · easy_vqa", "tiny · easy_vqa · 2"]


def test_a_sweep_without_costs_has_no_front(tmp_path, policy):
    tracker = tracker_at(tmp_path)
    with recorded_predictions(tracker) as predictions:
        assert pareto_of_sweep([], predictions=predictions, policy=policy) == {}


def test_predictions_are_fetched_once(tmp_path, monkeypatch):
    tracker = tracker_at(tmp_path)
    run = record(tracker, tmp_path, "tiny·none·s0", bits=16)
    fetched = []
    fetch = type(tracker).fetch
    monkeypatch.setattr(type(tracker), "fetch", lambda *given: fetched.append(given[1]) or fetch(*given))
    with recorded_predictions(tracker) as predictions:
        assert predictions.read(run).equals(predictions.read(run))
        kept = predictions.folder
    assert fetched == [run.info.run_id]
    assert not kept.exists()
