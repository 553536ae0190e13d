"""What runs of packed checkpoints are called by: as they were quantized, never as the baseline."""

import json
from dataclasses import replace

import pytest

from reliabit.composition import as_quantized, model_name
from reliabit.config import Config
from reliabit.models.settings import ModelConfig
from reliabit.quant import default_plan, export_compressed_tensors, exportable_plan, footprint, quantize_model
from reliabit.quant.checkpoint_io import save_checkpoint
from reliabit.quant.plan import Scheme
from reliabit.quant.record import Quantized, quantized_as
from reliabit.quant.settings import QuantConfig
from reliabit.quant.sizes import model_size
from reliabit.tasks._cell import run_name, run_tags

BASELINE = QuantConfig(name="none", method="none", bits=None, group_size=None)


def config_of(folder):
    model = ModelConfig("tiny", "qwen2_vl", str(folder), dtype="float32", template="{question}", max_new_tokens=8)
    return Config(model=model, quant=BASELINE, seed=0)


@pytest.fixture
def packed(checkpoint, tmp_path):
    quantize_model(checkpoint.model, default_plan(Scheme("hqq", bits=3)))
    save_checkpoint(checkpoint.model, tmp_path / "packed")
    return tmp_path / "packed"


def test_a_packed_checkpoint_is_named_after_its_method_and_width(packed, untrained):
    assert quantized_as(packed) == Quantized("reliabit", "hqq", bits=3, group_size=64)
    config = config_of(packed)
    config.data.name = "easy_vqa"
    named = replace(config, quant=as_quantized(config.quant, packed))
    assert run_name(named) == "tiny·easy_vqa·hqq·3b·s0"
    assert run_tags(named)["quant"] == "hqq"
    assert named.quant.method == "none", "nothing is quantized anew"
    assert quantized_as(untrained) is None
    assert as_quantized(BASELINE, untrained) == BASELINE


def test_a_name_that_was_given_stays(packed):
    named = as_quantized(replace(BASELINE, name="mbq"), packed)
    assert (named.name, named.bits, named.group_size) == ("mbq", 3, 64)
    anew = QuantConfig(name="hqq", method="hqq", bits=4, group_size=64)
    assert as_quantized(anew, packed) == anew, "to be refused when it is loaded"


def test_the_footprint_of_a_packed_checkpoint_is_its_own(packed, checkpoint):
    found = footprint(packed)
    assert found.size.quantized_bytes == model_size(checkpoint.model).quantized_bytes
    assert found.size.quantized_weights == model_size(checkpoint.model).quantized_weights > 0


def test_other_formats_are_told_apart(checkpoint, tmp_path):
    quantize_model(checkpoint.model, exportable_plan(default_plan(Scheme("hqq", bits=4, group_size=32))))
    export_compressed_tensors(checkpoint.model, tmp_path / "exported")
    assert quantized_as(tmp_path / "exported") == Quantized("compressed-tensors", "compressed-tensors", 4, 32)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, Quantized("gptq", "gptq", 4, None)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Quantized("bitsandbytes", "bitsandbytes", 4, None)),
        ({"bits": 4}, Quantized("", "quantized", 4, None)),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4}}, "b": {}}},
            Quantized("compressed-tensors", "compressed-tensors", 4, None),
        ),
        ({"quant_method": ["gptq"], "bits": [4]}, Quantized("['gptq']", "['gptq']", None, None)),
        ({"quant_method": "reliabit", "schemes": 5}, Quantized("reliabit", "reliabit", None, None)),
        ({"quant_method": "x", "config_groups": [{"weights": 4}]}, Quantized("x", "x", None, None)),
        ({"quant_method": "x", "group_size": "many"}, Quantized("x", "x", None, None)),
        ({}, Quantized("", "quantized", None, None)),
        (None, None),
        ("packed", None),
    ],
)
def test_records_of_other_formats_are_never_taken_for_none(tmp_path, record, expected):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": record}))
    assert quantized_as(tmp_path) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, "qwen2_vl_tiny"),
        ({"path": "elsewhere/qwen2_vl_tiny"}, "qwen2_vl_tiny"),
        ({"path": "checkpoints/mine"}, "mine"),
        ({"name": "ours", "path": "checkpoints/mine"}, "ours"),
        ({"name": "qwen2_5_vl_3b", "path": "checkpoints/mine", "revision": None}, "mine"),
        # A folder that is checked to be the very commit of the option.
        ({"name": "qwen2_5_vl_3b", "revision": "66285546d2b821cf421d4f5eb2576359d3770cd3"}, "qwen2_5_vl_3b"),
        ({"name": "qwen2_5_vl_3b", "path": f"hub/models--me--Mine/snapshots/{'0' * 40}", "revision": "0" * 40}, "Mine"),
        ({"name": "qwen2_5_vl_3b", "path": "hub/qwen2_5_vl_3b-finetuned", "revision": None}, "qwen2_5_vl_3b-finetuned"),
    ],
)
def test_a_model_of_ones_own_goes_by_its_own_name(overrides, expected):
    values = {"name": "qwen2_vl_tiny", "family": "qwen2_vl", "path": "models/qwen2_vl_tiny", "template": "{question}"}
    model = ModelConfig(**{**values, "dtype": "float32", "max_new_tokens": 8, **overrides})
    assert model_name(model) == expected


def test_a_checkpoint_that_was_quantized_from_an_option_keeps_its_name(packed):
    folder = packed.rename(packed.parent / "qwen2_vl_tiny-hqq-3bit")
    model = config_of(folder).model
    assert model_name(replace(model, name="qwen2_vl_tiny")) == "qwen2_vl_tiny"
