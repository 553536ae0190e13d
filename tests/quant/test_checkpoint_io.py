import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

import reliabit
from quant.samples import FAMILIES, answer_of, logits_of
from reliabit.errors import ReliabitError
from reliabit.files import MANIFEST, staged_folder, write_manifest
from reliabit.quant import (
    Scheme,
    checkpoint_bytes,
    default_plan,
    load_checkpoint,
    packed_modules,
    plan_from_config,
    quantize_model,
    register_when_imported,
    save_checkpoint,
)

WEIGHTS = "model.safetensors"
HYBRID = [
    {"components": ["vision"], "bits": 8, "zero": "symmetric"},
    {"components": ["language_attention", "connector"], "bits": 4, "zero": "integer"},
    {"components": ["language_mlp"], "bits": 3},
    {"components": ["lm_head", "embeddings"], "bits": 8, "group_size": None},
]


@pytest.fixture
def quantized(reference_model):
    """A model quantized in memory, by family and bits."""

    def make(family, bits, dtype=torch.float32):
        model = reference_model(family, dtype)
        quantize_model(model, default_plan(Scheme(bits=bits)))
        return model

    return make


@pytest.fixture
def checkpoint(quantized, tmp_path):
    """A quantized checkpoint folder."""
    save_checkpoint(quantized("idefics3", 4, torch.bfloat16), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def plain_load(folder, dtype=torch.float32):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize(("family", "bits"), list(product(FAMILIES, (2, 3, 4, 8))))
def test_plain_transformers_loads_generates_and_saves_the_same_bytes(family, bits, quantized, tmp_path):
    model = quantized(family, bits)
    model.save_pretrained(tmp_path / "first")
    loaded = plain_load(tmp_path / "first")
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert answer_of(loaded) == answer_of(model)
    loaded.save_pretrained(tmp_path / "second")
    assert (tmp_path / "first" / WEIGHTS).read_bytes() == (tmp_path / "second" / WEIGHTS).read_bytes()
    records = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("first", "second")]
    assert records[0] == records[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hybrid_comes_back_as_it_was(family, reference_model, tmp_path):
    model = reference_model(family)
    quantize_model(model, plan_from_config(HYBRID, defaults={"method": "rtn"}))
    save_checkpoint(model, tmp_path / "hybrid")
    loaded = plain_load(tmp_path / "hybrid")
    assert {name: module.layout for name, module in packed_modules(loaded).items()} == {
        name: module.layout for name, module in packed_modules(model).items()
    }
    assert torch.equal(logits_of(loaded), logits_of(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_models_answer_as_in_float32(family, quantized, tmp_path):
    model = quantized(family, 4)
    save_checkpoint(model, tmp_path / "checkpoint")
    half = load_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16)
    similar = torch.cosine_similarity(logits_of(half).flatten(), logits_of(model).flatten(), dim=0)
    assert similar > 0.999


def test_quantizing_in_two_steps_is_recorded_whole(reference_model, tmp_path):
    model = reference_model("qwen2_vl")
    quantize_model(model, default_plan(Scheme(bits=3)))
    quantize_model(model, plan_from_config([{"components": ["lm_head"], "bits": 8}]))
    save_checkpoint(model, tmp_path / "checkpoint")
    assert torch.equal(logits_of(plain_load(tmp_path / "checkpoint")), logits_of(model))


def test_the_config_tells_format_method_and_modules(checkpoint):
    record = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    assert (record["quant_method"], record["format_version"]) == ("reliabit", 1)
    (scheme,) = record["schemes"]
    assert (scheme["method"], scheme["bits"], scheme["group_size"], scheme["zero"]) == ("hqq", 4, 64, "float")
    assert "model.text_model.layers.0.self_attn.q_proj" in scheme["modules"]


def run_python(script):
    """What a script prints in a process of its own that finds the package where this one does."""
    environment = {**os.environ, "PYTHONPATH": str(Path(reliabit.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_process_of_its_own_needs_only_the_import(checkpoint):
    script = (
        "import torch, reliabit\n"
        "from transformers import AutoModelForImageTextToText\n"
        f"model = AutoModelForImageTextToText.from_pretrained({str(checkpoint)!r}, dtype=torch.float32)\n"
        "print(type(model.model.text_model.layers[0].mlp.up_proj).__name__)\n"
    )
    assert run_python(script) == "QuantLinear"


def test_transformers_may_be_imported_first(monkeypatch):
    from transformers.quantizers import auto

    for registry in (auto.AUTO_QUANTIZER_MAPPING, auto.AUTO_QUANTIZATION_CONFIG_MAPPING):
        monkeypatch.delitem(registry, "reliabit", raising=False)
    monkeypatch.delitem(sys.modules, "reliabit.quant.plugin", raising=False)
    register_when_imported()
    assert "reliabit" in auto.AUTO_QUANTIZER_MAPPING


def test_importing_the_package_imports_neither_torch_nor_transformers():
    script = (
        "import sys, reliabit, reliabit.quant; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert run_python(script) == "[]"


def test_processor_files_go_along_and_weights_do_not(reference_folder, quantized, tmp_path):
    source = reference_folder("idefics3")
    (source / "notes.bin").write_bytes(b"weights of another kind")
    # What an assembled model says of its own files does not hold for those that are made of it.
    write_manifest(source, [source / "config.json"])
    save_checkpoint(quantized("idefics3", 8), tmp_path / "checkpoint", processor_from=source)
    names = {file.name for file in (tmp_path / "checkpoint").iterdir()}
    assert {"tokenizer.json", "config.json", WEIGHTS} <= names
    assert not {"notes.bin", MANIFEST} & names
    assert checkpoint_bytes(tmp_path / "checkpoint") == (tmp_path / "checkpoint" / WEIGHTS).stat().st_size


def edit_record(folder, **changes):
    record = json.loads((folder / "config.json").read_text())
    record["quantization_config"].update(changes)
    (folder / "config.json").write_text(json.dumps(record))


def refused(folder, message):
    """Both ways of loading refuse the folder with one clear sentence."""
    with pytest.raises(ReliabitError, match=message) as caught:
        load_checkpoint(folder, dtype=torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [2, 99, "2", None])
def test_a_newer_format_is_refused(checkpoint, version):
    edit_record(checkpoint, format_version=version)
    with pytest.raises(ReliabitError, match="is of format version .* reads up to version 1; update Reliabit"):
        plain_load(checkpoint)


def test_an_unknown_key_is_refused(checkpoint):
    edit_record(checkpoint, codebook="vq")
    refused(checkpoint, r"unknown keys \['codebook'\]")


@pytest.mark.parametrize("kept", [0, 5, 5000, -1])
def test_a_truncated_shard_is_named(checkpoint, kept):
    whole = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).write_bytes(whole[:kept])
    with pytest.raises(ReliabitError, match=r"model\.safetensors is truncated or no safetensors file"):
        plain_load(checkpoint)
    refused(checkpoint, "is truncated or no safetensors file")


def test_a_shard_that_lacks_tensors_is_refused(checkpoint):
    tensors = load_file(checkpoint / WEIGHTS)
    name = "model.text_model.layers.0.mlp.up_proj.weight_scale"
    del tensors[name]
    save_file(tensors, checkpoint / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ReliabitError, match=rf"lacks 1 of the model's tensors, {name} among them"):
        plain_load(checkpoint)


def test_a_shard_of_another_model_is_refused(checkpoint, reference_folder):
    (checkpoint / WEIGHTS).write_bytes((reference_folder("idefics3") / WEIGHTS).read_bytes())
    refused(checkpoint, "a shard is of another model or not whole")


def test_codes_of_another_width_are_refused(checkpoint):
    record = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    edit_record(checkpoint, schemes=[{**record["schemes"][0], "bits": 3}])
    refused(checkpoint, "checkpoint cannot be loaded|config.json tells of")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modules": ["model.text_model.layers.9.mlp.up_proj"]}, "this model has no such module"),
        ({"modules": ["model.text_model.norm"]}, "is a LlamaRMSNorm in this model"),
        ({"modules": ["lm_head", "lm_head"]}, "names lm_head twice"),
        ({"bits": 11}, "11 bits are not supported"),
    ],
)
def test_a_record_that_does_not_fit_the_model_is_refused(checkpoint, change, message):
    record = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    edit_record(checkpoint, schemes=[{**record["schemes"][0], **change}])
    refused(checkpoint, message)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    refused(tmp_path, r"is not a checkpoint folder \(it has no config.json\)")
    with pytest.raises(ReliabitError, match="holds no safetensors file"):
        checkpoint_bytes(tmp_path)


def test_nothing_half_written_is_left_behind(tmp_path):
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "old").write_text("kept")

    def write_half():
        with staged_folder(target) as staging:
            (staging / WEIGHTS).write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert (target / "old").read_text() == "kept"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unquantized_checkpoint_that_lacks_a_layer_is_refused(family, reference_folder, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(reference_folder(family), folder)
    tensors = load_file(folder / WEIGHTS)
    left = {name: tensor for name, tensor in tensors.items() if ".layers.1.mlp" not in name}
    assert len(left) < len(tensors)
    save_file(left, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ReliabitError, match=r"lacks \d+ of the model's tensors, .*layers\.1\.mlp.* among them"):
        load_checkpoint(folder, dtype=torch.float32)
