"""Pareto fronts from recorded cells: who belongs together, by which confidence, and what stays of a reused run."""

import pytest

from registry.measured import configuration, costs, table
from registry.test_policy import composed
from reliabit.evaluation.cells import STORED
from reliabit.tracking.sweep._tables import pareto_of_sweep


@pytest.fixture(scope="module")
def policy():
    return composed("registry.resamples=50").registry


def cell(name, *, accuracy=0.9, bits=4, model="tiny", selector=True, metrics=None, seed=0):
    answers = table(accuracy=accuracy, images={"test": 40, "val": 40, "cal": 60})
    if selector:
        answers = answers.append_column("conf_selector", answers["conf_maxprob"])
    config = {"quant": {"name": "hqq", "bits": bits}, "model": {"name": model}, "data": {"name": "easy_vqa"}}
    found = costs(stored=bits) if metrics is None else metrics
    return configuration(name, answers, efficiency=found, config={**config, "seed": seed}, model={"model": model})


def test_each_model_has_its_own_front(policy):
    cells = [
        cell("tiny·none·s0", bits=16),
        cell("tiny·hqq·4b·s0", bits=4),
        cell("tiny·hqq·8b·s0", bits=8, accuracy=0.7),
        cell("other·none·s0", bits=16, model="other", selector=False),
        cell("other·old·s0", bits=8, model="other", metrics={"accuracy/mean": 0.5}),
    ]
    fronts = pareto_of_sweep(cells, policy=policy, compared=5)
    assert list(fronts) == ["tiny · easy_vqa", "other · easy_vqa"]
    tiny, other = fronts.values()
    assert [point.name for point in tiny.points] == ["tiny·none·s0", "tiny·hqq·8b·s0", "tiny·hqq·4b·s0"]
    assert [point.costs[STORED] for point in tiny.points] == [bits * 2**20 for bits in (16, 8, 4)]
    assert tiny.places["tiny·hqq·8b·s0"].by == ("tiny·hqq·4b·s0",)
    assert [front.measurements.settings.confidence for front in (tiny, other)] == ["selector", "maxprob"]
    assert [point.name for point in other.points] == ["other·none·s0"]
    # Whoever chooses looks at all five.
    assert {one.comparisons for point in tiny.points for one in point.certificates} == {5}


def test_sets_of_cells_that_differ_in_more_are_numbered(policy):
    fronts = pareto_of_sweep([cell("tiny·none·s0"), cell("tiny·none·s1", seed=1)], policy=policy, compared=2)
    assert list(fronts) == ["tiny · easy_vqa", "tiny · easy_vqa · 2"]


def test_a_sweep_without_costs_has_no_front(policy):
    assert pareto_of_sweep([], policy=policy, compared=1) == {}
