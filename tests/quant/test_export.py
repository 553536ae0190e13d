import json
from itertools import product

import pytest
import torch
from transformers import AutoModelForImageTextToText

from quant.samples import FAMILIES, answer_of, logits_of
from reliabit.errors import ReliabitError
from reliabit.quant import QuantLinear, Scheme, default_plan, plan_from_config, quantize_model
from reliabit.quant.export import export_compressed_tensors, exportable_plan
from reliabit.quant.module_names import target_patterns

pytest.importorskip("compressed_tensors")

SCHEMES = [(2, "symmetric"), (3, "symmetric"), (4, "symmetric"), (4, "integer"), (8, "symmetric"), (8, "integer")]
HYBRID = [
    {"components": ["vision"], "bits": 8},
    {"components": ["language_attention"], "bits": 4},
    {"components": ["language_mlp"], "layers": [0], "bits": 3, "group_size": 32},
    {"components": ["language_mlp"], "layers": [1], "bits": 2},
    {"components": ["lm_head"], "bits": 8, "group_size": None},
]


def exported(model, plan, folder):
    """Quantize for export, export, and load with plain transformers and compressed-tensors."""
    quantize_model(model, exportable_plan(plan))
    export_compressed_tensors(model, folder)
    for layer in model.modules():
        if isinstance(layer, QuantLinear):
            # That library dequantizes; what it is compared with must not round as a kernel does.
            layer.use(None, model.dtype)
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=model.dtype)


@pytest.mark.parametrize(("family", "scheme"), list(product(FAMILIES, SCHEMES)))
def test_the_exported_model_answers_as_the_model_it_came_from(family, scheme, reference_model, tmp_path):
    bits, zero = scheme
    model = reference_model(family, torch.bfloat16)
    loaded = exported(model, default_plan(Scheme("hqq_plus", bits, zero=zero)), tmp_path / "exported")
    record = json.loads((tmp_path / "exported" / "config.json").read_text())["quantization_config"]
    assert (record["quant_method"], record["format"]) == ("compressed-tensors", "pack-quantized")
    assert record["config_groups"]["group_0"]["weights"]["num_bits"] == bits
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert answer_of(loaded) == answer_of(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hybrid_is_exported_with_all_its_layouts(family, reference_model, tmp_path):
    model = reference_model(family, torch.bfloat16)
    plan = plan_from_config(HYBRID, defaults={"zero": "symmetric"})
    loaded = exported(model, plan, tmp_path / "exported")
    record = json.loads((tmp_path / "exported" / "config.json").read_text())["quantization_config"]
    assert len(record["config_groups"]) == 5
    assert torch.equal(logits_of(loaded), logits_of(model))


def test_the_model_is_itself_again_after_its_export(reference_model, tmp_path):
    model = reference_model("idefics3", torch.bfloat16)
    quantize_model(model, exportable_plan(default_plan(Scheme(bits=3))))
    export_compressed_tensors(model, tmp_path / "exported")
    model.save_pretrained(tmp_path / "own")
    record = json.loads((tmp_path / "own" / "config.json").read_text())["quantization_config"]
    assert record["quant_method"] == "reliabit"


@pytest.mark.parametrize(("bits", "zero"), [(2, "symmetric"), (3, "symmetric"), (4, "integer"), (8, "symmetric")])
def test_float_zeros_are_solved_anew(bits, zero):
    assert exportable_plan(default_plan(Scheme(bits=bits))).rules[0].scheme.zero == zero


def test_several_layouts_are_symmetric_as_whole_zeros_have_one_alone():
    plan = exportable_plan(plan_from_config([{"components": ["vision"], "bits": bits} for bits in (4, 8)]))
    assert [rule.scheme.zero for rule in plan.rules] == ["symmetric", "symmetric"]
    kept = exportable_plan(default_plan(Scheme(bits=4, zero="symmetric")))
    assert kept.rules[0].scheme.zero == "symmetric"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"components": ["language_mlp"]}], "has float zeros, which cannot be exported"),
        (
            [{"components": ["language_mlp"], "bits": 3, "zero": "integer"}],
            r"integer grids are exported at \(4, 8\) bits",
        ),
        ([{"components": ["language_mlp"], "bits": 5, "zero": "symmetric"}], "symmetric grids are exported at"),
        ([{"components": ["embeddings"], "zero": "symmetric"}], "is a quantized embedding"),
        (
            [
                {"components": ["language_mlp"], "zero": "integer"},
                {"components": ["lm_head"], "bits": 8, "zero": "integer"},
            ],
            "with one layout for all modules only",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_written(rules, message, reference_model, tmp_path):
    model = reference_model("idefics3")
    quantize_model(model, plan_from_config(rules, defaults={"method": "rtn"}))
    with pytest.raises(ReliabitError, match=message):
        export_compressed_tensors(model, tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_an_unquantized_model_is_not_exported(reference_model, tmp_path):
    with pytest.raises(ReliabitError, match="nothing in this model is quantized"):
        export_compressed_tensors(reference_model("idefics3"), tmp_path / "exported")


@pytest.mark.parametrize("family", FAMILIES)
def test_target_patterns_mean_exactly_their_modules(family, reference_model):
    import re

    model = reference_model(family)
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    some = [name for name in linears if "layers.1" in name or "merger" in name or "connector" in name]
    for names in (linears, some, linears[::3], ["lm_head"]):
        patterns = [pattern.removeprefix("re:") for pattern in target_patterns(names, linears)]
        assert [name for name in linears if any(re.match(pattern, name) for pattern in patterns)] == names
