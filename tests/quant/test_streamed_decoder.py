import json

import pytest
import torch
from folder_spool import FolderSpool
from safetensors.torch import load_file

from quant.calibration_samples import LAYERS, random_batch
from quant.samples import FAMILIES
from reliabit.errors import ReliabitError
from reliabit.quant import (
    Calibration,
    ResidentDecoder,
    Scheme,
    collect,
    default_plan,
    load_checkpoint,
    plan_from_config,
    quantize_model,
    save_checkpoint,
)
from reliabit.quant.settings import ScalingConfig
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint
from reliabit.quant.streaming.streamed_decoder import StreamedDecoder

MIXED = [
    {"components": ["language_attention", "language_mlp"], "bits": 3},
    {"components": ["lm_head"], "bits": 8},
    {"components": ["vision"], "layers": [0], "bits": 4},
]


def same_folder(one, other):
    files = [sorted(file.name for file in folder.glob("*.safetensors")) for folder in (one, other)]
    assert files[0] == files[1]
    for name in files[0]:
        left, right = load_file(one / name), load_file(other / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_statistics_are_those_of_the_resident_model(family, reference_folder, reference_model, tmp_path):
    model, folder = reference_model(family), reference_folder(family)
    batches = [random_batch(model, seed=seed, padding=seed) for seed in range(3)]
    resident = collect(ResidentDecoder(model, LAYERS[family]), batches, tmp_path / "resident", key="k")
    spool = tmp_path / "spool"
    spool.mkdir()
    decoder = StreamedDecoder(folder, LAYERS[family], dtype=torch.float32)
    streamed = collect(decoder, batches, tmp_path / "streamed", key="k", spool=FolderSpool(spool))
    same_folder(resident.folder, streamed.folder)
    assert not list(spool.iterdir())
    held = [parameter for parameter in decoder.model.parameters() if not parameter.is_meta]
    assert sum(parameter.untyped_storage().nbytes() for parameter in held) < 1024


@pytest.mark.parametrize("mode", ["fast", "faithful"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_streamed_checkpoint_is_that_of_the_resident_model(family, mode, reference_folder, reference_model, tmp_path):
    source, model = reference_folder(family), reference_model(family, torch.bfloat16)
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    exact = reference_model(family)
    statistics = collect(ResidentDecoder(exact, LAYERS[family]), batches, tmp_path / "statistics", key="k")
    calibration = Calibration(statistics, ScalingConfig(search=mode, ratios=5), batches)
    plan = plan_from_config(MIXED, defaults={"method": "rtn"})
    streamed = quantize_checkpoint(
        source, tmp_path / "streamed", plan, decoder_layers=LAYERS[family], calibration=calibration, shard_bytes=2**18
    )
    report = quantize_model(model, plan, calibration)
    save_checkpoint(model, tmp_path / "resident")
    assert streamed.modules == report.modules
    assert [found.exponent for found in streamed.scales] == [found.exponent for found in report.scales]
    assert any(found.exponent > 0 for found in report.scales)
    one, other = (load_checkpoint(tmp_path / name, dtype=torch.bfloat16) for name in ("streamed", "resident"))
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("streamed", "resident")]
    assert configs[0]["quantization_config"] == configs[1]["quantization_config"]
    assert len(list((tmp_path / "streamed").glob("*.safetensors"))) > 3


def test_streaming_without_calibration_is_plain_quantization(reference_folder, reference_model, tmp_path):
    plan = default_plan(Scheme("hqq_plus", 2))
    quantize_checkpoint(reference_folder("idefics3"), tmp_path / "one", plan, decoder_layers=LAYERS["idefics3"])
    model = reference_model("idefics3", torch.bfloat16)
    quantize_model(model, plan)
    left, right = load_checkpoint(tmp_path / "one", dtype=torch.bfloat16).state_dict(), model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_a_folder_of_another_model_is_refused(reference_folder, tmp_path):
    folder = reference_folder("idefics3")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 256
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ReliabitError, match="stores .* as .*, and the model has"):
        StreamedDecoder(tmp_path, LAYERS["idefics3"], dtype=torch.float32)
