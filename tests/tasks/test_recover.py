"""`task=recover`: what it writes is a checkpoint of our format with the codes that were quantized."""

import json
from types import SimpleNamespace

import psutil
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from reliabit.composition import as_quantized, register, to_config
from reliabit.data.prepared_table import load_split
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.quant.checkpoint_files import verify_checkpoint
from reliabit.tasks import recover as recovering
from reliabit.tasks.preflight import preflight
from reliabit.tasks.recover import CURVE, RECORD, recover

SMALL = {
    "task.recovery.steps": 4,
    # A few steps that show in what is stored.
    "task.recovery.learning_rate": 5e-3,
    "task.recovery.epoch_steps": 2,
    "task.recovery.images": 2,
    "task.recovery.scored_images": 1,
    "task.recovery.held_out_images": 2,
    "data.splits": "{train: 5, dev: 2, val: 1, cal: 1, test: 1}",
    "data.ask": "{dev: 0, val: 0, cal: 0, test: 0}",
}


def config(root, *options, **changes):
    register()
    places = {"paths.data": root / "data", "paths.root": root, "paths.output": root / "out", "trainer.threads": 1}
    given = [f"{key}={value}" for key, value in {**places, **SMALL, **changes}.items()]
    chosen = ["task=recover", "model=idefics3_tiny", "data=easy_vqa", *(options or ["quant=rtn", "quant.bits=2"])]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=[*chosen, *given]))


def weights(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """What the model is quantized to, and the folder that its data were prepared in."""
    from reliabit.tasks.quantize import stream_quantized

    root = tmp_path_factory.mktemp("packed")
    stream_quantized(config(root), root / "packed")
    return root / "packed"


def test_codes_stay_and_what_was_trained_is_stored_as_before(packed, tmp_path, monkeypatch, capsys):
    read = []
    monkeypatch.setattr(recovering, "load_split", lambda folder, split: read.append(split) or load_split(folder, split))
    settings = config(tmp_path)
    preflight(settings)
    recover(settings)
    folder = tmp_path / "checkpoints" / "idefics3_tiny-rtn-2bit-recovered"
    # Never val, cal or test.
    assert read == ["train", "dev"]
    verify_checkpoint(folder)
    before, after = weights(packed), weights(folder)
    assert before.keys() == after.keys()
    changed = {name for name, old in before.items() if not torch.equal(old, after[name])}
    assert {after[name].dtype == before[name].dtype for name in before} == {True}
    assert changed
    assert {name.rpartition(".")[2] for name in changed} == {"weight_scale", "weight_zero", "weight"}
    assert all("norm" in name for name in changed if name.endswith(".weight"))

    record = json.loads((folder / RECORD).read_text())
    assert record["recipe"]["steps"] == 4
    assert set(record["made_of"]) == {"packed", "teacher", "train", "dev"}
    assert [row["step"] for row in record["curve"]] == [0, 2, 4, 4]
    assert (tmp_path / "out" / CURVE).stat().st_size > 0
    assert not list((tmp_path / "checkpoints").glob("recover-*"))
    told = capsys.readouterr().out
    assert "trained for 4 steps; codes as they were" in told
    assert f"model.path={folder} quant=none" in told

    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in changed if "weight_" in name)
    named = as_quantized(config(tmp_path, "quant=none").quant, folder)
    assert (named.name, named.bits) == ("rtn_recovered", 2)


def test_what_was_packed_before_is_recovered_without_dev(packed, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(recovering, "load_split", lambda folder, split: read.append(split) or load_split(folder, split))
    settings = config(
        tmp_path,
        "quant=none",
        **{"task.packed": packed, "task.checkpoint": tmp_path / "mine", "task.recovery.reliability_weight": 0},
    )
    settings.task.recovery.steps = settings.task.recovery.epoch_steps = 1
    preflight(settings)
    recover(settings)
    assert read == ["train"]
    before, after = weights(packed), weights(tmp_path / "mine")
    assert all(torch.equal(old, after[name]) for name, old in before.items() if name.endswith("weight_codes"))


def written(folder, **quantization):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    described = {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}
    if quantization:
        described["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (["quant=none"], {}, r"nothing to recover with quant=none: the model is unquantized; choose a quantizer"),
        (["quant=none"], {"task.packed": "plain"}, r"plain is unquantized; name a checkpoint that task=quantize wrote"),
        (["quant=none"], {"task.packed": "foreign"}, r"foreign is in the format hqq, whose scales are not trained"),
        (["quant=rtn"], {"task.packed": "ours"}, r"nothing is quantized; add quant=none"),
        (["quant=rtn"], {"model.path": "ours"}, r"ours is quantized, and task=recover learns from the unquantized"),
        ([], {"data.splits": "{train: 0, dev: 2, val: 1, cal: 1, test: 1}"}, r"trains on the split train"),
        ([], {"data.splits": "{train: 9, dev: 0, val: 1, cal: 1, test: 1}"}, r"or set task.recovery.reliability_we"),
        ([], {"task.recovery.held_out_images": 5}, r"held_out_images=5 leaves none of the 5 images of train"),
        ([], {"task.recovery.reliability_weight": -1}, r"reliability_weight=-1.0 is no weight; give 0 or more"),
    ],
)
def test_what_cannot_be_recovered_is_refused_before_it_begins(tmp_path, options, changes, message):
    places = {
        "plain": written(tmp_path / "plain"),
        "foreign": written(tmp_path / "foreign", quant_method="hqq"),
        "ours": written(tmp_path / "ours", quant_method="reliabit", schemes=[]),
    }
    found = {key: places.get(value, value) for key, value in changes.items()}
    with pytest.raises(ReliabitError, match=message):
        preflight(config(tmp_path, *options, **found))


def test_too_little_memory_is_said_before_anything_is_quantized(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**29))
    with pytest.raises(ReliabitError, match=r"recovering idefics3_tiny takes 1\.\d GB of memory, and 0\.5 GB are free"):
        recover(config(tmp_path))
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_of_another_model_is_no_packed_form_of_it(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(recovering, "check_loadable", lambda model: None)
    described = json.loads((packed / "config.json").read_text())
    described["text_config"]["num_hidden_layers"] += 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(described))
    settings = config(tmp_path, "quant=none", **{"task.packed": other})
    with pytest.raises(ReliabitError, match=r"was quantized from another model than .*; name the model that it was"):
        recover(settings)
