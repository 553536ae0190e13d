"""Policies from conf/, and configurations from a real store."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from registry.measured import costs, table
from reliabit.composition import register, to_config, to_mapping
from reliabit.errors import ReliabitError
from reliabit.identity import FINGERPRINT, identify
from reliabit.inference.predictions import COLUMNS, PREDICTIONS, write_predictions
from reliabit.paths import conf_folder
from reliabit.registry.policy import Policy
from reliabit.tracking.recorded_cells import cell_of_run, cells_of_sweep

POLICIES = sorted(path.stem for path in (conf_folder() / "registry").glob("*.yaml"))
INPUTS = {
    "model/model.safetensors": "a" * 64,
    "data/test": "b" * 64,
    "data/cal": "c" * 64,
    "scenes/test": "d" * 64,
    "calibration": "e" * 64,
}
CLEAN = {"mlflow.source.git.commit": "f" * 40, "git.dirty": "false", "kind": "cell"}


def composed(*overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=list(overrides)))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_composes(name):
    policy = composed(f"registry={name}").registry
    assert policy.name == name
    assert policy.required_risk in policy.certified_risks
    assert policy.metric


def test_there_are_policies_to_choose_from():
    assert {"smallest", "most_reliable"} <= set(POLICIES)


def test_the_default_policy_is_the_one_that_was_asked_for():
    policy = composed().registry
    assert (policy.name, policy.objective, policy.metric) == (
        "smallest",
        "resident_bytes",
        "efficiency/resident_bytes",
    )
    assert (policy.required_risk, policy.minimum_coverage) == (0.05, 0.5)
    assert (policy.accuracy_loss, policy.slice_loss, policy.level) == (0.02, 0.05, 0.95)


def test_what_is_measured_is_what_runs_report():
    settings = composed("evaluation.level=0.9", "evaluation.delta=0.2").registry
    assert (settings.level, settings.delta) == (0.9, 0.2)


@pytest.mark.parametrize("name", POLICIES)
def test_no_seed_of_a_report_decides_what_goes_live(name):
    config = composed(f"registry={name}", "evaluation.seed=3", "evaluation.resamples=17", "seed=5")
    settings = config.registry
    assert (settings.seed, settings.resamples) == (0, 2000)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("registry.objective=beauty", "registry.objective=beauty is not a value of this key; choose one of: stored_by"),
        ("registry.confidence=entropy", "registry.confidence=entropy .* choose one of: maxprob, selector"),
        ("registry.required_risk=0.2", "registry.required_risk=0.2 is not among"),
        ("registry.minimum_coverage=1.5", "registry.minimum_coverage=1.5 must be a share"),
        ("registry.accuracy_loss=-0.1", "registry.accuracy_loss=-0.1 must be a share"),
        ("registry.incumbent.augrc_loss=2", "registry.incumbent.augrc_loss=2.0 must be a share"),
        ("registry.level=0.4", "registry.level=0.4 is no confidence"),
        ("registry.delta=0", "registry.delta=0.0 must lie between 0 and 1"),
        ("registry.slice_confidently_wrong=1.5", "registry.slice_confidently_wrong=1.5 must be a share"),
        ("registry.slice_coverage_loss=-0.1", "registry.slice_coverage_loss=-0.1 must be a share"),
        ("registry.slice_questions=0", "registry.slice_questions=0 must be above zero"),
    ],
)
def test_wrong_policies_are_refused(override, message):
    with pytest.raises(ReliabitError, match=message):
        composed(override)


def test_no_policy_changes_what_a_run_is():
    plain = to_mapping(composed())
    hexes = {identify(to_mapping(composed(f"registry={name}")), inputs=INPUTS).hex for name in POLICIES}
    assert hexes == {identify(plain, inputs=INPUTS).hex}
    # Runs from before there were policies keep their fingerprints.
    without = {key: value for key, value in plain.items() if key != "registry"}
    assert hexes == {identify(without, inputs=INPUTS).hex}


def test_every_key_of_a_policy_is_documented():
    documented = "".join(f"{one.__doc__}" for one in Policy.__mro__)
    for entry in fields(Policy):
        assert f"{entry.name}: " in documented, entry.name


def answers():
    """A whole predictions table."""
    import pyarrow as pa

    found = table(images={"test": 5, "val": 3, "cal": 3})
    for name, kind in COLUMNS.items():
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, pa.type_for_alias(kind)))
    return found


def record(tracker, folder: Path, name: str, *, tags=CLEAN, parent=None, overrides=(), lacking=()):
    """Record a run as `task=pipeline` does."""
    config = to_mapping(composed(*overrides))
    identity = identify(config, inputs=INPUTS)
    write_predictions(answers(), folder / PREDICTIONS)
    with tracker.run(name, tags={**tags, **identity.to_tags()}, parent=parent) as run:
        run.log_parameters(config)
        texts = {"config.yaml": yaml.safe_dump(dict(config)), FINGERPRINT: identity.to_json()}
        for file, text in texts.items():
            if file not in lacking:
                run.log_text(text, file)
        run.log_metrics({**costs(), "accuracy/mean": 0.9})
        if PREDICTIONS not in lacking:
            run.log_file(folder / PREDICTIONS)
    return run.run_id, identity


def test_a_configuration_is_read_from_its_run(tracker, tmp_path):
    run_id, identity = record(tracker, tmp_path, "tiny·hqq·3b·s0", overrides=["quant.bits=3"])
    found = cell_of_run(tracker, run_id)
    assert (found.name, found.run_id, found.fingerprint, found.status) == (
        "tiny·hqq·3b·s0",
        run_id,
        identity.hex,
        "FINISHED",
    )
    assert found.dirty == ()
    assert set(found.inputs) == {"data/test", "data/cal", "scenes/test"}
    assert set(found.model) == {"model/model.safetensors"}
    assert found.metrics == {**costs(), "accuracy/mean": 0.9}
    assert found.predictions.equals(answers())
    assert found.config["quant"]["bits"] == 3
    assert not found.unquantized


def test_a_sweep_is_read_with_what_did_not_finish(tracker, tmp_path):
    parent = tracker.start("sweep", tags={"kind": "sweep"}).run_id
    record(tracker, tmp_path, "tiny·none·s0", parent=parent, overrides=["quant=none"])
    dirty = {**CLEAN, "git.dirty": "true", "dvc.dirty": "true"}
    record(tracker, tmp_path, "tiny·hqq·2b·s0", parent=parent, overrides=["quant.bits=2"], tags=dirty)
    record(tracker, tmp_path, "tiny·hqq·2b·s0", parent=parent, overrides=["quant.bits=2", "quant.group_size=128"])
    with pytest.raises(ReliabitError, match="no memory"), tracker.run("tiny·hqq·8b·s0", tags=CLEAN, parent=parent):
        raise ReliabitError("no memory")
    found = {one.name: one for one in cells_of_sweep(tracker, parent)}
    assert set(found) == {
        "tiny·none·s0",
        "tiny·hqq·2b·s0 quant.group_size=64",
        "tiny·hqq·2b·s0 quant.group_size=128",
        "tiny·hqq·8b·s0",
    }
    baseline, narrow = found["tiny·none·s0"], found["tiny·hqq·2b·s0 quant.group_size=64"]
    assert baseline.unquantized
    assert baseline.differs_in_quantization_alone(narrow)
    assert not baseline.differs_in_quantization_alone(replace(narrow, model={}))
    seeded = {**narrow.config, "seed": 1}
    assert not baseline.differs_in_quantization_alone(replace(narrow, config=seeded))
    assert narrow.dirty == ("git.dirty is true", "dvc.dirty is true")
    failed = found["tiny·hqq·8b·s0"]
    assert (failed.status, failed.predictions, dict(failed.inputs)) == ("FAILED", None, {})


def test_what_is_not_recorded_is_named(tracker, tmp_path):
    with pytest.raises(ReliabitError, match="there is no run 0000"):
        cell_of_run(tracker, "0000")
    for lacking in (FINGERPRINT, "config.yaml", PREDICTIONS):
        run_id, _ = record(tracker, tmp_path, "lacking", lacking=[lacking])
        with pytest.raises(ReliabitError, match=f"lacking cannot be judged: .* has no {lacking} to read"):
            cell_of_run(tracker, run_id)
    empty = tracker.start("sweep", tags={"kind": "sweep"}).run_id
    with pytest.raises(ReliabitError, match="has no cells to choose among"):
        cells_of_sweep(tracker, empty)
