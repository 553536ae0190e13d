"""Pareto fronts from recorded cells: who belongs together, by which confidence, and what stays of a reused run."""

import pyarrow as pa
import pytest

from registry.measured import configuration, costs, table
from registry.test_policy import composed
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.data.sources import DataConfig
from reliabit.evaluation.cells import STORED
from reliabit.tracking.sweep._tables import compare_with_baselines, pareto_of_sweep


@pytest.fixture(scope="module")
def config():
    return composed("registry.resamples=50", "evaluation.resamples=50")


@pytest.fixture(scope="module")
def policy(config):
    return config.registry


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


def pictured(folder, **lost):
    """Cells that were asked what a prepared table asks, and are right but for the answers that are lost."""
    asked = load_split(folder, "test").remove_columns("image").to_list()
    sure = {"split": "test", "shift": "none", "conf_maxprob": 0.95}
    return [
        configuration(
            f"tiny·{name}·s0",
            pa.Table.from_pylist(
                [{**row, **sure, "accuracy": 0.0 if row["answers"][0] in wrong else 1.0} for row in asked]
            ),
            inputs={"data/test": read_manifest(folder)["test"].sha256},
            config={
                "quant": {"name": name, "bits": 4},
                "model": {"name": "tiny"},
                "data": {"name": "scenes"},
                "seed": 0,
            },
        )
        for name, wrong in {"none": (), **lost}.items()
    ]


def test_slices_are_compared_and_pictures_are_sliced_where_they_are_at_hand(config, tmp_path):
    folder = prepare(DataConfig(name="scenes", splits={"test": 60}, questions_per_image=3), root=tmp_path)
    cells = pictured(folder, hqq=("yes", "no"))
    settings, policy = config.evaluation, config.registry
    found = compare_with_baselines(cells, settings=settings, policy=policy, compared=2, prepared=tmp_path)
    [slices] = found.slices
    hit = {(one.value, one.before, one.after) for one in slices.changes if one.metric == "accuracy/mean" and one.worse}
    assert ("yes/no", 1.0, 0.0) in hit
    assert {"image_brightness", "image_edges"} <= {one.column for one in slices.changes}
    where = "tiny.scenes"
    assert found.tables[f"slice_changes.{where}.csv"] == slices.csv()
    assert {f"slice_changes.{where}.md", f"slices.{where}.md", f"differences.{where}.md"} <= {*found.tables}
    assert set(found.figures) == {f"slice_changes.{where}.png", f"risk_coverage.{where}.png"}
    elsewhere = compare_with_baselines(
        cells, settings=settings, policy=policy, compared=2, prepared=tmp_path / "elsewhere"
    )
    assert {one.column for one in elsewhere.slices[0].changes} == {"all", "question_type", "answer_type"}
