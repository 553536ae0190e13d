import copy
from itertools import product

import pytest
import torch
from torch import nn

from quant.samples import heavy_tailed
from reliabit.quant import QuantEmbedding, QuantLinear, layers, model_size, quantize_weight

BITS = (2, 3, 4, 8)
ZEROS = ("float", "integer", "symmetric")


def quantized_linear(bits, group_size=64, *, zero="float", bias=True, rows=48, columns=128):
    linear = nn.Linear(columns, rows, bias=bias)
    linear.weight.data.copy_(heavy_tailed(rows, columns))
    return linear, quantize_weight(linear.weight, "hqq_plus", bits, group_size, zero=zero)


@pytest.mark.parametrize(("bits", "zero", "group_size"), list(product(BITS, ZEROS, (16, 64, None))))
def test_a_layer_multiplies_by_the_dequantized_weight(bits, zero, group_size):
    linear, weight = quantized_linear(bits, group_size, zero=zero)
    layer = QuantLinear.from_linear(linear, weight)
    inputs = torch.randn(2, 5, 128)
    assert torch.equal(layer.dequantize(), weight.dequantize())
    assert torch.equal(layer(inputs), nn.functional.linear(inputs, weight.dequantize(), linear.bias))
    assert torch.equal(layer.zeros(), weight.zero)
    assert torch.equal(layer.quantized_weight().codes, weight.codes)


@pytest.mark.parametrize(("bits", "zero"), list(product(BITS, ZEROS)))
def test_effective_bits_are_those_of_the_formula(bits, zero):
    linear, weight = quantized_linear(bits, 64, zero=zero, bias=False)
    size = model_size(QuantLinear.from_linear(linear, weight))
    overhead = {"float": 32, "integer": 16 + bits, "symmetric": 16}[zero]
    assert size.quantized_effective_bits == bits + overhead / 64
    assert size.stored_bytes == size.resident_bytes == size.quantized_bytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("metadata", ["float16", "bfloat16", "float32"])
def test_casting_a_model_leaves_scales_and_zeros_alone(dtype, metadata):
    linear = nn.Linear(128, 48)
    weight = quantize_weight(linear.weight, "hqq", 3, 64, metadata=metadata)
    layer = QuantLinear.from_linear(linear, weight).to(dtype)
    assert torch.equal(layer.dequantize(), weight.dequantize())
    assert layer.weight_scale.dtype == weight.layout.metadata_dtype
    assert layer.bias.dtype == dtype
    assert layer(torch.randn(2, 128, dtype=dtype)).dtype == dtype


def test_a_layer_survives_copying_and_its_state_dict():
    linear, weight = quantized_linear(3, zero="integer")
    layer = QuantLinear.from_linear(linear, weight)
    empty = QuantLinear(128, 48, weight.layout, bias=True)
    empty.load_state_dict(layer.state_dict())
    inputs = torch.randn(4, 128)
    assert torch.equal(copy.deepcopy(layer)(inputs), layer(inputs))
    assert torch.equal(empty(inputs), layer(inputs))


def test_gradients_reach_the_inputs_and_no_weight():
    linear, weight = quantized_linear(4)
    layer = QuantLinear.from_linear(linear, weight)
    inputs = torch.randn(3, 128, requires_grad=True)
    layer(inputs).sum().backward()
    assert torch.allclose(inputs.grad, weight.dequantize().sum(0).expand(3, -1), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_float32_products_do_not_depend_on_the_batch(batch):
    linear, weight = quantized_linear(4)
    layer = QuantLinear.from_linear(linear, weight)
    inputs = torch.randn(64, 128)
    parts = torch.cat([layer(part) for part in inputs.split(batch)])
    assert torch.allclose(parts, layer(inputs), atol=1e-6)


@pytest.fixture
def dequantized(monkeypatch):
    """How often weights are dequantized, by the type they are wanted in."""
    seen = []
    plain = QuantLinear.dequantize

    def counted(layer, dtype=torch.float32):
        seen.append(dtype)
        return plain(layer, dtype)

    monkeypatch.setattr(QuantLinear, "dequantize", counted)
    return seen


def test_weights_are_dequantized_once_and_then_let_go(dequantized):
    linear, weight = quantized_linear(3)
    model = nn.Sequential(QuantLinear.from_linear(linear, weight))
    inputs = torch.randn(4, 128)
    expected = nn.functional.linear(inputs, weight.dequantize(), linear.bias)
    with layers.dequantized_once(model, dtype=torch.float32):
        assert torch.equal(model(inputs), expected)
        assert torch.equal(model(inputs), expected)
        assert dequantized == [torch.float32]
        assert model.double()(inputs.double()).dtype == torch.float64
        assert model[0].kept_tensors == ()
    assert dequantized == [torch.float32, torch.float64]
    model.float()(inputs)
    model(inputs)
    assert len(dequantized) == 4
    assert model[0]._dequantized is None


def test_another_weight_is_not_multiplied_by_the_old_one():
    layer = QuantLinear.from_linear(*quantized_linear(4, bias=False))
    _, other = quantized_linear(4, bias=False)
    inputs = torch.randn(4, 128)
    with layers.dequantized_once(layer, dtype=torch.float32):
        layer(inputs)
        layer.hold(other)
        assert torch.equal(layer(inputs), inputs @ other.dequantize().T)
        layer.load_state_dict(QuantLinear.from_linear(*quantized_linear(4, bias=False)).state_dict())
        assert torch.equal(layer(inputs), inputs @ layer.dequantize().T)


def test_a_model_that_is_too_large_dequantizes_for_each_product(dequantized, monkeypatch):
    model = nn.Sequential(QuantLinear.from_linear(*quantized_linear(4)))
    monkeypatch.setattr(layers, "ROOM", 4 * 48 * 128 - 1)
    with layers.dequantized_once(model, dtype=torch.float32):
        model(torch.randn(1, 128))
        model(torch.randn(1, 128))
    assert len(dequantized) == 2


@pytest.mark.parametrize(("bits", "zero"), list(product(BITS, ZEROS)))
def test_an_embedding_looks_up_dequantized_rows(bits, zero):
    embedding = nn.Embedding(40, 64, padding_idx=0)
    weight = quantize_weight(embedding.weight, "hqq", bits, 32, zero=zero)
    layer = QuantEmbedding.from_embedding(embedding, weight)
    tokens = torch.tensor([[1, 39, 0], [5, 5, 7]])
    assert torch.equal(layer(tokens), nn.functional.embedding(tokens, weight.dequantize()))
    half = layer.to(torch.bfloat16)(tokens)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, nn.functional.embedding(tokens, weight.dequantize()).bfloat16())


def test_layers_say_what_they_are():
    linear, weight = quantized_linear(3)
    assert "bits=3, group_size=64, zero=float" in repr(QuantLinear.from_linear(linear, weight))
