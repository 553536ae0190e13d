"""The numbers that `dvc metrics` shows are those of the report, few, and of the policy's confidence."""

import json

import pyarrow as pa
import pytest

from registry.measured import table
from registry.test_policy import composed
from reliabit.inference.predictions import COLUMNS, write_predictions
from reliabit.tasks.evaluate import HEADLINE, evaluate

IMAGES = {"test": 100, "val": 60, "cal": 120}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The predictions of a cell of the pipeline, with a Selector that knows more than MaxProb."""
    found = table(accuracy=0.9, skill=0.5, images=IMAGES)
    for name, kind in COLUMNS.items():
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, pa.type_for_alias(kind)))
    found = found.append_column("conf_selector", table(accuracy=0.9, skill=0.95, images=IMAGES)["conf_maxprob"])
    folder = tmp_path_factory.mktemp("results") / "tiny-hqq-4bit-made"
    (folder / "selected").mkdir(parents=True)
    write_predictions(found, folder / "selected" / "predictions.parquet")
    return folder


@pytest.mark.parametrize(("confidence", "suffix"), [("selector", ".selector"), ("maxprob", "")])
def test_headline_numbers_are_those_of_the_report(cell, tmp_path, confidence, suffix):
    few = ("evaluation.resamples=20", "evaluation.slices=[]", f"registry.confidence={confidence}")
    place = f"task.predictions={cell}/selected/predictions.parquet"
    evaluate(composed("task=evaluate", place, f"paths.output={tmp_path}", *few))
    shown = json.loads((tmp_path / HEADLINE).read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert shown == {
        heading: pytest.approx(100 * metrics[name], abs=1e-4)
        for heading, name in {
            "accuracy %": "accuracy/mean",
            "AURC %": f"selective/aurc{suffix}",
            "ECE %": f"calibration/ece_15{suffix}",
            "C@1%": f"selective/coverage_at_1pct_risk{suffix}",
            "C@5%": f"selective/coverage_at_5pct_risk{suffix}",
            "certified C@5%": f"certified/coverage_at_5pct_risk{suffix}",
        }.items()
    }
    assert HEADLINE in json.loads((tmp_path / "reliabit_files.json").read_text())["files"]
