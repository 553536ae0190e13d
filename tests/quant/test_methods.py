"""A quantizer that somebody adds is one file and one YAML of a package of their own."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from added_packages import added as added_package
from added_packages import composed as composed_with
from reliabit.components import Components
from reliabit.errors import ReliabitError
from reliabit.quant import QUANTIZERS, Plan, Rule, Scheme, build_plan, plan_from_config, quantize_model, quantize_weight
from reliabit.quant.mbq.search import nearest
from reliabit.quant.methods import read_options
from reliabit.quant.settings import QuantConfig
from reliabit.settings import check

MODULE = """
    from dataclasses import dataclass

    from reliabit.quant.methods import QUANTIZERS
    from reliabit.quant.quantizer import Quantizer
    from reliabit.settings import positive

    @dataclass
    class ClippedSettings:
        share: float = positive(default=1.0)

    @QUANTIZERS.register("clipped")
    class Clipped(Quantizer):
        "Symmetric, from a share of the largest weight of a group."
        options = ClippedSettings

        def solve(self, groups, scheme):
            largest = groups.abs().amax(dim=1, keepdim=True).clamp_min(1e-6) * self.settings.share
            scale = 2 * largest / (2**scheme.bits - 1)
            return scale, scale.new_full(scale.shape, 2.0 ** (scheme.bits - 1))
"""
CHOICE = """
    name: clipped
    method: clipped
    bits: 4
    group_size: 32
    zero: symmetric
    options: {share: 0.5}
    rules:
      - components: [lm_head]
"""


@pytest.fixture
def added(tmp_path):
    """An installed package that adds a quantizer and a choice of `quant`."""
    options = {"quant/clipped.yaml": CHOICE}
    with added_package(tmp_path, QUANTIZERS, name="clipped", group="reliabit.quantizers", code=MODULE, options=options):
        yield tmp_path


def composed(folder, *overrides):
    return composed_with(folder, "quant=clipped", *overrides)


def test_an_added_quantizer_is_chosen_like_ours_and_quantizes(added):
    config = composed(added)
    assert config.quant.options == {"share": 0.5}
    plan = build_plan(config.quant)
    model = nn.ModuleDict({"lm_head": nn.Linear(64, 32, bias=False)})
    weight = model["lm_head"].weight.detach().clone()
    report = quantize_model(model, plan)
    assert (report.names, report.modules[0].scheme.method) == (("lm_head",), "clipped")
    alone = quantize_weight(weight, "clipped", 4, 32, zero="symmetric", share=0.5)
    assert torch.equal(model["lm_head"].quantized_weight().codes, alone.codes)
    assert not torch.equal(quantize_weight(weight, "clipped", 4, 32, zero="symmetric").codes, alone.codes)
    assert float(alone.dequantize().abs().max()) <= float(weight.abs().max()) * 0.6


def test_a_rule_may_bring_settings_of_its_method(added):
    rules = [{"components": ["lm_head"], "method": "clipped", "zero": "symmetric", "options": {"share": 0.25}}]
    (rule,) = plan_from_config(rules, defaults={"bits": 3}).rules
    assert rule.scheme == Scheme("clipped", 3, zero="symmetric", options={"share": 0.25})
    assert rule.scheme.record()["options"] == {"share": 0.25}
    (other,) = plan_from_config([{"components": ["lm_head"], "method": "rtn"}], defaults=vars(rule.scheme)).rules
    assert other.scheme.options == {}, "the settings of one method say nothing to another"
    assert nearest({"lm_head": rule.scheme})["lm_head"].options == {}
    assert "options" not in Scheme().record(), "checkpoints of our methods say what they always said"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("+quant.options.shear=0.5",),
            r"quant.options has unknown keys \['shear'\]; quant.method=clipped takes share",
        ),
        (("quant.options.share=0",), "quant.options.share=0.0 must be above zero"),
        (("quant.options.share=half",), "quant.options cannot be used: Value 'half'"),
        (("quant.method=rtn",), r"quant.options has unknown keys \['share'\]; quant.method=rtn takes none"),
        (
            ("quant.method=clippd",),
            "quant.method=clippd is not a value of this key; choose one of: none, clipped, gptq, hqq, ",
        ),
    ],
)
def test_what_a_method_does_not_take_is_refused_where_it_is_written(added, overrides, message):
    with pytest.raises(ReliabitError, match=message):
        composed(added, *overrides)


def test_what_a_method_does_not_take_is_refused_before_any_work(added):
    model = nn.ModuleDict({"lm_head": nn.Linear(64, 32)})
    plan = Plan((Rule(Scheme("clipped", options={"shear": 1.0}), components=("lm_head",)),))
    with pytest.raises(ReliabitError, match=r"lm_head: options has unknown keys \['shear'\]"):
        quantize_model(model, plan)
    assert type(model["lm_head"]) is nn.Linear


def test_a_known_name_is_known_without_torch(added):
    code = f"""
import sys
sys.path.insert(0, {str(added)!r})
from reliabit.quant.settings import QuantConfig
from reliabit.settings import check
for method in ("hqq_plus", "clipped"):
    check(QuantConfig(name="x", method=method, bits=4, group_size=64, rules=[{{}}]), key="quant")
print(sorted({{"torch", "numpy", "added_clipped"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_our_methods_are_called_as_their_modules():
    assert QUANTIZERS.found() == QUANTIZERS.names() == ("gptq", "hqq", "hqq_plus", "rtn")
    with pytest.raises(ReliabitError, match="quant.method=gptx is not a value of this key"):
        check(QuantConfig("g", "gptx", 4, 64, rules=[{}]), key="quant")
    assert read_options("rtn", {}, key="quant.options") is None
    assert Components("shape", package="reliabit.quant.methods", entry_points="none").found() == QUANTIZERS.found()
