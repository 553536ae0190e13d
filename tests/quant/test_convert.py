import copy
import re

import pytest
import torch

from quant.samples import FAMILIES, logits_of
from reliabit.errors import ReliabitError
from reliabit.quant import (
    Plan,
    QuantEmbedding,
    QuantLinear,
    Rule,
    Scheme,
    default_plan,
    model_size,
    packed_modules,
    plan_from_config,
    quantize_model,
)

DECODER = re.compile(r"^model\.(language_model|text_model)\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj$")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_exactly_the_decoder_is_converted(family, bits, reference_model):
    model = reference_model(family)
    linears = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    expected = [name for name in linears if DECODER.match(name)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = quantize_model(model, default_plan(Scheme(bits=bits)))
    assert list(report.names) == expected == list(packed_modules(model))
    assert all(type(model.get_submodule(name)) is QuantLinear for name in expected)
    layers = model.config.text_config.num_hidden_layers
    assert len(expected) == 7 * layers
    assert report.effective_bits == bits + 0.5
    untouched = {name: tensor for name, tensor in model.state_dict().items() if name in before}
    assert all(torch.equal(tensor, before[name]) for name, tensor in untouched.items())
    assert len(before) - len(untouched) == len(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_bits_are_smaller_and_farther_from_the_original(family, reference_model):
    model = reference_model(family)
    reference, sizes, distances = logits_of(model), [], []
    for bits in (8, 4, 3, 2):
        quantized = copy.deepcopy(model)
        quantize_model(quantized, default_plan(Scheme(bits=bits)))
        sizes.append(model_size(quantized, stored_dtype=torch.bfloat16).stored_bytes)
        distances.append(float((logits_of(quantized) - reference).norm()))
    assert sizes == sorted(sizes, reverse=True)
    assert distances == sorted(distances)


@pytest.mark.parametrize("family", FAMILIES)
def test_four_bit_weights_take_about_a_quarter_of_bfloat16(family, reference_model):
    model = reference_model(family, torch.bfloat16)
    quantize_model(model, default_plan(Scheme(bits=4)))
    size = model_size(model)
    assert 0.25 < size.quantized_bytes / (2 * size.quantized_weights) < 0.29


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_can_be_quantized(family, reference_model):
    model = reference_model(family)
    rules = [
        {"components": ["vision", "connector"], "bits": 8, "zero": "symmetric"},
        {"components": ["language_attention"], "bits": 4, "zero": "integer"},
        {"components": ["language_mlp"], "bits": 3, "group_size": 32},
        {"components": ["lm_head", "embeddings"], "bits": 8, "group_size": None},
    ]
    plan = plan_from_config(rules, defaults={"method": "hqq_plus"})
    reference = logits_of(model)
    report = quantize_model(model, plan)
    kinds = {type(module) for module in model.modules()}
    assert torch.nn.Linear not in kinds
    assert QuantEmbedding in kinds
    assert len({module.scheme for module in report.modules}) == 4
    assert torch.cosine_similarity(logits_of(model).flatten(), reference.flatten(), dim=0) > 0.9


def test_the_report_tells_the_error_of_each_module(reference_model):
    model = reference_model("idefics3")
    name = "model.text_model.layers.0.mlp.up_proj"
    weight = model.get_submodule(name).weight.detach().clone()
    report = quantize_model(model, Plan((Rule(Scheme(bits=3), pattern=f"^{re.escape(name)}$"),)))
    (module,) = report.modules
    error = (model.get_submodule(name).dequantize() - weight).abs().sum() / weight.abs().sum()
    assert module.weight_error == pytest.approx(float(error), rel=1e-4)
    assert module.stored_bytes == weight.numel() * 3.5 / 8
    assert module.weights == weight.numel()


def test_methods_differ_and_the_library_runs(reference_model):
    errors = {}
    for method, solver in (("rtn", "chunked"), ("hqq", "chunked"), ("hqq", "library"), ("hqq_plus", "chunked")):
        model = reference_model("qwen2_vl")
        plan = Plan((Rule(Scheme(method, 2, solver=solver), pattern=r"layers\.0\.mlp\.up_proj$"),))
        errors[method, solver] = quantize_model(model, plan).modules[0].weight_error
    assert errors["hqq", "chunked"] <= 1.005 * errors["hqq", "library"]
    assert errors["hqq_plus", "chunked"] < errors["hqq", "chunked"] < errors["rtn", "chunked"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_number_of_bits_is_enough(family, reference_model):
    by_bits, by_plan = reference_model(family), reference_model(family)
    report = quantize_model(by_bits, bits=3)
    assert report == quantize_model(by_plan, default_plan(Scheme(bits=3)))
    assert torch.equal(logits_of(by_bits), logits_of(by_plan))


def test_method_and_group_size_may_be_given_and_rules_leave_out_what_is(reference_model):
    report = quantize_model(reference_model("qwen2_vl"), bits=4, method="rtn", group_size=32)
    assert {module.scheme for module in report.modules} == {Scheme("rtn", 4, 32)}
    rules = [{"components": ["vision"], "bits": 8}, {"components": ["language_mlp"]}]
    report = quantize_model(reference_model("qwen2_vl"), rules, bits=2)
    assert {module.scheme.bits for module in report.modules if ".visual." in module.name} == {8}
    assert {module.scheme.bits for module in report.modules if ".visual." not in module.name} == {2}


def test_a_model_of_text_alone_is_quantized_but_for_its_head_and_loads_again(tmp_path):
    """Its layers carry none of the names that parts of a multimodal model have, and 48 inputs need groups of 16."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).eval()
    report = quantize_model(model, bits=4)
    assert len(report.names) == 14
    assert not any("lm_head" in name for name in report.names)
    assert {module.scheme.group_size for module in report.modules} == {16}
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_rows_that_no_group_size_divides_are_groups():
    report = quantize_model(torch.nn.Sequential(torch.nn.Linear(40, 8)), bits=8)
    assert report.modules[0].scheme.group_size is None


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (torch.nn.Linear(16, 16), {}, "say to how many bits: bits=2, 3, 4 or 8, or give a plan"),
        (torch.nn.ReLU(), {"bits": 4}, "a ReLU has no linear layers that could be quantized"),
        (
            torch.nn.Linear(16, 16),
            {"plan": Plan(()), "bits": 4},
            "the plan says how each module is quantized; leave out",
        ),
        (torch.nn.Sequential(torch.nn.Linear(16, 16)), {"bits": 9}, "9 bits"),
        (
            torch.nn.Sequential(torch.nn.Linear(16, 16)),
            {"bits": 4, "method": "mbq"},
            "unknown quantization method 'mbq'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(model, arguments, message):
    with pytest.raises(ReliabitError, match=message) as refused:
        quantize_model(model, **arguments)
    assert "\n" not in str(refused.value)


def refused(model, plan, message):
    """Quantizing is refused with one sentence, and nothing of the model has changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ReliabitError, match=message) as caught:
        quantize_model(model, plan)
    assert "\n" not in str(caught.value)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


def test_a_module_is_not_quantized_twice(reference_model):
    model = reference_model("qwen2_vl")
    plan = default_plan(Scheme(bits=8))
    quantize_model(model, plan)
    refused(model, plan, r"layers\.0\.self_attn\.q_proj is quantized already, to 8 bits")


def test_bad_weights_are_named_before_anything_is_converted(reference_model):
    model = reference_model("idefics3")
    name = "model.text_model.layers.1.mlp.down_proj"
    model.get_submodule(name).weight.data[3, 4] = float("nan")
    refused(model, default_plan(Scheme()), rf"^{re.escape(name)}: 1 of \d+ weights are NaN or infinite$")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (
            Scheme(group_size=96),
            "group size 96 does not divide its 128 inputs; choose one of 16, 32, 64, 128, or null for whole rows",
        ),
        (Scheme(bits=9), "9 bits are not supported"),
        (Scheme(method="awq"), "unknown quantization method 'awq'"),
        (Scheme(zero="symmetric", solver="library"), "solver 'library' runs method 'hqq' with float zeros"),
    ],
)
def test_bad_schemes_are_refused(scheme, message, reference_model):
    refused(reference_model("idefics3"), default_plan(scheme), message)


def test_a_shared_weight_is_refused(reference_model):
    model = reference_model("qwen2_vl")
    first, second = (layer.mlp for layer in model.model.language_model.layers)
    second.up_proj.weight = first.up_proj.weight
    refused(model, default_plan(Scheme(bits=8)), r"layers.0.mlp.up_proj shares its weight with .*layers.1.*; untie it")


def test_what_is_not_plainly_linear_is_refused():
    class Adapted(torch.nn.Linear):
        pass

    model = torch.nn.ModuleDict({"lm_head": Adapted(64, 64)})
    refused(model, Plan((Rule(Scheme(), components=("lm_head",)),)), "lm_head is a Adapted; only plain linear layers")
