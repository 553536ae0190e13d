import copy
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config, to_mapping
from reliabit.digests import DigestCache, checkpoint_inputs
from reliabit.errors import ReliabitError
from reliabit.identity import FINGERPRINT, Fingerprint, explain, identify, without_transport
from reliabit.paths import conf_folder
from reliabit.tracking.parameters import flatten
from tracking.stores import tracker_at

INPUTS = {"model/model.safetensors": "a" * 64, "data/test": "b" * 64}


def composed(*overrides: str) -> dict:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return dict(to_mapping(to_config(compose("config", overrides=list(overrides)))))


@pytest.fixture(scope="module")
def config():
    return composed("+data@other_data.scenes=scenes")


def hex_of(config) -> str:
    return identify(config, inputs=INPUTS).hex


def is_transport(key: str) -> bool:
    whole = ("hydra.", "tracking.", "paths.", "sweep.", "registry.")
    single = {
        "trainer.progress_bar",
        "trainer.threads",
        "trainer.devices",
        "trainer.device_memory",
        "trainer.host_memory",
        "model.path",
        "data.root",
        "other_data.scenes.root",
    }
    single |= {"model.download", "model.parts", "data.split_ids", "other_data.scenes.split_ids"}
    single |= {f"engine.{key}" for key in ("url", "python", "key_variable", "concurrency", "retries")}
    single |= {"engine.timeout", "engine.warm_up_timeout"}
    places = {"task.checkpoint", "task.predictions", "task.baseline", "task.results"}
    places |= {"quant.calibration.chat", "quant.calibration.chat_images", "quant.plan"}
    return key.startswith(whole) or key in single | places


def changed(config: dict, key: str) -> dict:
    found = copy.deepcopy(config)
    *groups, name = key.split(".")
    node = found
    for group in groups:
        node = node[group]
    node[name] = [node[name], "another"]
    return found


def test_every_key_but_transport_decides_the_fingerprint(config):
    original, kept = hex_of(config), 0
    for key in flatten(config):
        differs = hex_of(changed(config, key)) != original
        assert differs != is_transport(key), key
        kept += differs
    assert kept > 60


def test_a_project_that_is_moved_keeps_its_fingerprints(config):
    elsewhere = ["paths.root=/elsewhere", "model.path=/elsewhere/models/qwen2_vl_tiny"]
    moved = composed("+data@other_data.scenes=scenes", *elsewhere, "trainer.threads=7")
    assert hex_of(moved) == hex_of(config)


@pytest.mark.parametrize(
    "overrides",
    [
        ["quant=none"],
        ["quant=hybrid", "model=idefics3_tiny"],
        ["quant.bits=2", "evaluation.risks=[1.0e-05, 0.5]", "model.template='{question} ä: #'"],
    ],
)
def test_the_log_of_a_run_gives_the_fingerprint_that_it_started_with(overrides, tmp_path, tracker):
    config = composed(*overrides)
    before = identify(config, inputs=INPUTS)
    with tracker.run("cell", tags=before.to_tags()) as run:
        run.log_text(yaml.safe_dump(config, sort_keys=False), "config.yaml")
        run.log_text(before.to_json(), FINGERPRINT)
    logged = Fingerprint.from_json(tracker.fetch(run.run_id, FINGERPRINT, tmp_path).read_text())
    assert logged.hex == before.hex
    assert explain(before, logged) == []
    again = identify(
        yaml.safe_load(tracker.fetch(run.run_id, "config.yaml", tmp_path).read_text()), inputs=logged.inputs
    )
    assert again.hex == before.hex
    found = tracker.client.search_runs([tracker.experiment_id], filter_string=f"tags.fingerprint = '{again.hex}'")
    assert [entry.info.run_id for entry in found] == [run.run_id]


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    return tracker_at(tmp_path_factory.mktemp("store"))


def test_the_formula_of_version_2_does_not_change():
    fingerprint = Fingerprint(config={"seed": 0, "a": {"b": 0.5}}, inputs={"x": "y"}, code={}, libraries={"torch": "2"})
    text = '{"code":{},"config":{"a":{"b":0.5},"seed":0},"inputs":{"x":"y"},"libraries":{"torch":"2"},"version":2}'
    assert fingerprint.hex == hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint.to_tags()["fingerprint.libraries"] == hashlib.sha256(b'{"torch":"2"}').hexdigest()


def test_other_processes_compute_the_same(config):
    code = (
        "import json, sys; from reliabit.identity import identify; "
        "print(identify(json.load(sys.stdin), inputs=json.loads(sys.argv[1])).to_json())"
    )
    # Keys in another order, and strings hashed otherwise.
    turned = {key: config[key] for key in reversed(config)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(dict(reversed(INPUTS.items())))],
        input=json.dumps(turned),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1] / "src",
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
    )
    here, there = identify(config, inputs=INPUTS), Fingerprint.from_json(done.stdout)
    assert explain(here, there) == []
    assert here.hex == there.hex


def test_what_differs_is_said_in_words(config):
    old = identify(config, inputs=INPUTS)
    other = copy.deepcopy(config)
    other["quant"]["bits"] = 2
    other["data"]["splits"] = {"test": 5}
    new = replace(
        identify(other, inputs={"model/model.safetensors": "c" * 64, "data/val": "d" * 64}),
        code={**old.code, "quant/methods/rtn.py": "0"},
        libraries={**old.libraries, "torch": "1.0"},
        version=3,
    )
    found = explain(old, new)
    assert found[0] == "fingerprint version: 2 -> 3"
    assert "quant.bits: 4 -> 2" in found
    assert f"data.splits.train: {config['data']['splits']['train']} -> absent" in found
    assert "input model/model.safetensors changed" in found
    assert "input data/test is gone" in found
    assert "input data/val is new" in found
    assert "source of quant/methods/rtn.py changed" in found
    assert f'torch: "{old.libraries["torch"]}" -> "1.0"' in found
    assert explain(old, old) == []
    moved = replace(old, code={})
    assert explain(old, moved)[:2] == ["source of __init__.py is gone", "source of cache.py is gone"]
    assert explain(old, moved)[-1] == f"and that of {len(old.code) - 5} more modules"


def test_numbers_of_other_types_are_told_apart():
    parts = {"inputs": {}, "code": {}, "libraries": {}}
    whole, real, truth = (Fingerprint(config={"a": value}, **parts) for value in (1, 1.0, True))
    assert len({whole.hex, real.hex, truth.hex}) == 3
    assert explain(whole, truth) == ["a: 1 -> true"]


def test_a_changed_weight_is_another_run(tmp_path, config):
    folder, cache = tmp_path / "model", DigestCache(tmp_path / "cache")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    first = identify(config, inputs=checkpoint_inputs(folder, cache=cache))
    (folder / "model.safetensors").write_bytes(b"weightz")
    second = identify(config, inputs=checkpoint_inputs(folder, cache=cache))
    assert explain(first, second) == ["input model/model.safetensors changed"]
    assert first.hex != second.hex


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "was changed after it was written"),
        (
            lambda text: text.replace('"version": 2', '"version": 1'),
            "of version 1 and this Reliabit computes version 2; run it again to compare",
        ),
        (lambda text: text[:50], "is no fingerprint"),
        (lambda _: "[]", "is no fingerprint"),
        (lambda _: '{"hex": "x", "version": 2}', "is no fingerprint"),
    ],
)
def test_an_artifact_that_is_no_fingerprint_is_refused(damage, message):
    text = Fingerprint(config={"seed": 0}, inputs={}, code={}, libraries={}).to_json()
    with pytest.raises(ReliabitError, match=message):
        Fingerprint.from_json(damage(text))


def test_what_is_left_of_a_configuration_is_still_nested():
    config = {"paths": {"root": "/x"}, "other_data": {}, "task": {"recipe": None, "checkpoint": "x"}, "seed": 0}
    assert without_transport(config) == {"task": {"recipe": None}, "seed": 0}
