import dataclasses
import hashlib
import json

import pytest
import torch

from damage import places_in, turned
from quant.calibration_samples import LAYERS, random_batch
from reliabit.errors import DamagedError, ReliabitError
from reliabit.quant import (
    Calibration,
    ResidentDecoder,
    Scheme,
    collect,
    default_plan,
    folder_digest,
    quantize_model,
    read_statistics,
    statistics_key,
)
from reliabit.quant.mbq import statistics_key as identity
from reliabit.quant.settings import CalibrationConfig

PATH = LAYERS["idefics3"]


def model_digest(model):
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture
def model(reference_model):
    return reference_model("idefics3")


@pytest.fixture
def statistics(model, tmp_path):
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    return collect(ResidentDecoder(model, PATH), batches, tmp_path / "statistics", key="k")


def test_statistics_are_read_as_they_were_written(statistics):
    again = read_statistics(statistics.folder, key="k")
    assert torch.equal(again.gradients, statistics.gradients)
    assert again.contexts[0].keywords.keys() == statistics.contexts[0].keywords.keys()
    assert isinstance(again.contexts[0].keywords["position_embeddings"], tuple)
    record = json.loads((statistics.folder / "statistics.json").read_text())
    assert record["sequences"] == 6
    assert record["tokens"] == {"answer": 12, "vision": 150, "other": 66}
    assert record["ratios"][0]["attention"].keys() == {"estimate", "low", "high"}


def test_the_key_depends_on_everything_that_decides(model, monkeypatch):
    batch = random_batch(model, seed=0)
    given = {
        "weights": model_digest(model),
        "batches": [batch],
        "settings": CalibrationConfig(),
        "path": PATH,
        "dtype": torch.float32,
    }
    key = statistics_key(**given)
    assert key == statistics_key(**given)
    pixels = {**batch.inputs, "pixel_values": batch.inputs["pixel_values"] + 1e-3}
    keys = {
        key,
        statistics_key(**{**given, "batches": [dataclasses.replace(batch, inputs=pixels)]}),
        statistics_key(**{**given, "batches": [dataclasses.replace(batch, targets=batch.targets + 1)]}),
        statistics_key(**{**given, "batches": [batch, batch]}),
        statistics_key(**{**given, "settings": CalibrationConfig(tokens=17)}),
        statistics_key(**{**given, "dtype": torch.bfloat16}),
    }
    model.lm_head.weight.data[0, 0] += 1
    keys.add(statistics_key(**{**given, "weights": model_digest(model)}))
    monkeypatch.setattr(identity, "code_digest", lambda: "other code")
    keys.add(statistics_key(**given))
    assert len(keys) == 8


def test_the_folder_digest_depends_on_weights_and_configuration(reference_folder, tmp_path):
    source = reference_folder("idefics3")
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert folder_digest(tmp_path) == folder_digest(source)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("1e-06", "1e-05"))
    assert folder_digest(tmp_path) != folder_digest(source)
    with pytest.raises(ReliabitError, match="holds no safetensors file"):
        folder_digest(config.parent.parent)


def test_stale_statistics_are_never_used(statistics):
    with pytest.raises(ReliabitError, match="computed for another model, calibration set, setting or version"):
        read_statistics(statistics.folder, key="another")


def test_a_missing_layer_is_named(model, statistics):
    (statistics.folder / "layer-001.safetensors").unlink()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        ReliabitError, match=r"lacks the calibration statistics layer-001.safetensors; delete .* and calibrate again"
    ):
        quantize_model(model, default_plan(Scheme("rtn", 3)), Calibration(statistics))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_changed_file_is_named(statistics):
    file = statistics.folder / "layer-000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ReliabitError, match="layer-000.safetensors differs from its hash"):
        statistics.layer(0)


def test_no_bit_of_statistics_changes_unnoticed(statistics):
    files = sorted(path for path in statistics.folder.iterdir() if path.is_file())
    assert statistics.folder / "statistics.json" in files
    for path, bit in places_in(files, count=150):
        with (
            turned(path, bit),
            pytest.raises(DamagedError, match=f"{path.name} differs from .*; delete .* and calibrate"),
        ):
            read_statistics(statistics.folder, key="k")
    # However small they are beside the tensors.
    for _, bit in places_in([statistics.folder / "statistics.json"], count=100):
        with turned(statistics.folder / "statistics.json", bit), pytest.raises(DamagedError):
            read_statistics(statistics.folder, key="k")
    read_statistics(statistics.folder, key="k")


def test_a_folder_without_statistics_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="holds no calibration statistics; run task=calibrate"):
        read_statistics(tmp_path, key="k")


def test_statistics_of_another_decoder_are_refused(reference_model, statistics):
    with pytest.raises(ReliabitError, match="has no decoder layers at"):
        quantize_model(reference_model("qwen2_vl"), default_plan(Scheme("rtn", 3)), Calibration(statistics))


def test_a_plan_without_decoder_layers_cannot_be_scaled(model, statistics):
    from reliabit.quant import Plan, Rule

    plan = Plan((Rule(Scheme(bits=8), components=("vision",)),))
    with pytest.raises(ReliabitError, match="nothing to scale; leave scaling out"):
        quantize_model(model, plan, Calibration(statistics))
