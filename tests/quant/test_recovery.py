"""Scales and zeros are trained while codes stay: held against autograd through an explicit dequantization."""

import pytest
import torch
from torch import nn

from reliabit.quant.convert import quantize_model
from reliabit.quant.recovery import TrainedLinear, settle_scales, train_scales


def packed(zero="float", *, bits=3, bias=True, method="hqq"):
    torch.manual_seed(0)
    model = nn.ModuleDict({"lm_head": nn.Linear(64, 12, bias=bias)})
    rule = {"components": ["lm_head"], "bits": bits, "group_size": 16, "zero": zero, "method": method}
    quantize_model(model, [rule])
    return model


@pytest.mark.parametrize(("zero", "method"), [("float", "hqq"), ("integer", "rtn"), ("symmetric", "rtn")])
def test_gradients_are_those_of_an_explicit_dequantization(zero, method):
    model = packed(zero, method=method)
    weight = model["lm_head"].quantized_weight()
    codes = weight.codes.reshape(12, 4, 16).double()
    scale, shift = (values.double().requires_grad_() for values in (weight.scale, weight.zero))
    inputs = torch.randn(2, 5, 64)
    explicit = inputs.double().requires_grad_()
    dequantized = ((codes - shift[..., None]) * scale[..., None]).reshape(12, 64)
    expected = explicit @ dequantized.T + model["lm_head"].bias.double()
    towards = torch.randn(2, 5, 12)
    (expected * towards).sum().backward()

    train_scales(model, lambda name: True)
    layer, given = model["lm_head"], inputs.clone().requires_grad_()
    found = layer(given)
    torch.testing.assert_close(found, expected.float())
    (found * towards).sum().backward()
    torch.testing.assert_close(given.grad, explicit.grad.float())
    # Factors are relative to the scale.
    torch.testing.assert_close(layer.factor.grad, (scale.grad * scale).detach().float(), rtol=1e-4, atol=1e-4)
    if zero == "float":
        torch.testing.assert_close(layer.shift.grad, shift.grad.float(), rtol=1e-4, atol=1e-4)
    else:
        assert layer.shift is None


def test_settling_rounds_to_the_stored_type_and_leaves_codes_alone():
    model = packed()
    before = {name: tensor.clone() for name, tensor in model["lm_head"].state_dict().items()}
    train_scales(model, lambda name: True)
    layer = model["lm_head"]
    with torch.no_grad():
        layer.factor.add_(0.1)
        layer.shift.sub_(0.25)
    inputs = torch.randn(3, 64)
    trained = layer(inputs)
    settled = settle_scales(model)
    after = model["lm_head"].state_dict()
    assert set(settled) == {"lm_head.weight_scale", "lm_head.weight_zero"}
    assert torch.equal(after["weight_codes"], before["weight_codes"])
    assert after["weight_scale"].dtype == after["weight_zero"].dtype == torch.float16
    assert torch.equal(after["weight_scale"], (before["weight_scale"].float() * 1.1).half())
    assert torch.equal(after["weight_zero"], (before["weight_zero"].float() - 0.25).half())
    torch.testing.assert_close(model["lm_head"](inputs), trained, atol=5e-3, rtol=5e-3)


def test_only_chosen_layers_are_trained():
    model = packed()
    assert train_scales(model, lambda name: False) == []
    assert not any(isinstance(module, TrainedLinear) for module in model.modules())
