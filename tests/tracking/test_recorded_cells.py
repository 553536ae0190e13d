"""One cell from its run, and the same from the folder that the versioned pipeline wrote."""

import json
from dataclasses import replace

import pytest

from registry.measured import costs
from registry.test_policy import CLEAN, answers, composed, record
from reliabit.composition import to_mapping
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import families_of
from reliabit.files import sha256, write_manifest
from reliabit.inference.cell_record import CellRecord
from reliabit.inference.predictions import PREDICTIONS, write_predictions
from reliabit.tracking.recorded_cells import Competing, cell_of_run
from tracking.stores import tracker_at

METRICS = {"accuracy/mean": 0.9}


def write_results(results, name, *, quantizer, bits):
    """What the stages leave of a cell, whose checkpoint they answer as if it were a model of its own."""
    folder = results / name
    config = to_mapping(composed("quant=none", f"quant.name={quantizer}", f"model.path=checkpoints/{name}"))
    kept = {key: value for key, value in config.items() if key not in ("paths", "tracking", "sweep", "task")}
    CellRecord(f"tiny·{quantizer}·s0", {"kind": "cell"}, kept, "data/made", costs(), kernels={}).write(folder)
    predictions, metrics = folder / "selected" / PREDICTIONS, folder / "report" / "metrics.json"
    write_predictions(answers(), predictions)
    write_manifest(predictions.parent, [predictions])
    metrics.parent.mkdir()
    metrics.write_text(json.dumps(METRICS))
    write_manifest(metrics.parent, [metrics], predictions=sha256(predictions))
    return folder


def test_a_cell_is_the_same_from_its_run_and_from_its_files(tmp_path):
    competing = Competing("qwen2_vl_tiny", "easy_vqa", ["hqq"], [3])
    for folder, (quantizer, bits) in competing.folders().items():
        write_results(tmp_path / "results", folder, quantizer=quantizer, bits=bits)
    baseline, written = competing.read(tmp_path / "results")
    tracker = tracker_at(tmp_path)
    run_id, _ = record(tracker, tmp_path, "tiny·hqq·3b·s0", overrides=["quant.bits=3"], tags=CLEAN)
    recorded = cell_of_run(tracker, run_id)
    for name in ("quantizer", "bits", "quantization", "mixed", "unquantized", "finished", "model_name", "place"):
        assert getattr(written, name) == getattr(recorded, name), name
    assert written.confidences == recorded.confidences == ["maxprob"]
    assert written.metrics == recorded.metrics == {**METRICS, **costs()}
    assert written.answers.equals(recorded.answers)
    assert (baseline.unquantized, baseline.quantization, baseline.bits) == (True, "none", 16)
    # Their checkpoints lie apart, and are of one model all the same.
    assert baseline.differs_in_quantization_alone(written)
    assert families_of([written, recorded, baseline]) == [[written, baseline], [recorded]]


def test_a_cell_without_answers_says_so_and_a_plan_has_no_single_width(tmp_path):
    competing = Competing("qwen2_vl_tiny", "easy_vqa", ["hqq"], [3])
    for folder, (quantizer, bits) in competing.folders().items():
        write_results(tmp_path, folder, quantizer=quantizer, bits=bits)
    _, cell = competing.read(tmp_path)
    with pytest.raises(ReliabitError, match="hqq·s0 recorded no predictions; run it again"):
        replace(cell, predictions=None).answers  # noqa: B018
    planned = replace(cell, config={**cell.config, "quant": {"name": "hqq", "bits": None}})
    assert (planned.mixed, cell.mixed) == (True, False)
    (tmp_path / "qwen2_vl_tiny-hqq-3bit-easy_vqa" / "report" / "metrics.json").write_text("[")
    with pytest.raises(ReliabitError, match="metrics.json differs from its hash; bring it up to date with dvc repro"):
        competing.read(tmp_path)
