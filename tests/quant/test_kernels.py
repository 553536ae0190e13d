import copy
import logging
from itertools import product

import pytest
import torch
from accelerate import cpu_offload
from torch import nn

from quant.samples import heavy_tailed
from reliabit.quant import QuantLinear, kernels_of, model_size, quantize_weight
from reliabit.quant import layers as linear
from reliabit.quant.kernels import dispatch
from reliabit.quant.kernels.cpu import INT4_LARGEST_BATCH, Int4Pack, Int8Pack
from reliabit.quant.kernels.cuda import GemLite, Humming
from reliabit.quant.kernels.dispatch import TOLERANCE, choose_kernel, self_test

ROWS, COLUMNS = 80, 512
ZEROS = ("float", "integer", "symmetric")
needs_int4 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="the 4-bit kernel wants AVX2 or AVX512"
)


def layer_of(bits, group_size=64, *, zero="float", rows=ROWS, columns=COLUMNS, make=torch.randn):
    linear = nn.Linear(columns, rows)
    torch.manual_seed(0)
    linear.weight.data.copy_(make(rows, columns))
    return QuantLinear.from_linear(linear, quantize_weight(linear.weight, "hqq_plus", bits, group_size, zero=zero))


@needs_int4
@pytest.mark.parametrize(("bits", "zero", "group_size"), list(product(range(1, 9), ZEROS, (32, 64, None))))
def test_the_four_bit_kernel_gives_what_eager_gives_at_every_width(bits, zero, group_size):
    layer = layer_of(bits, group_size, zero=zero)
    kernel = Int4Pack.prepare(layer, torch.bfloat16)
    layer.use(kernel, torch.bfloat16)
    tolerance = 5e-3 if bits in (2, 3, 4, 8) and group_size else TOLERANCE
    assert self_test(kernel, layer) < tolerance
    inputs = torch.randn(3, 5, COLUMNS).bfloat16()
    exact = nn.functional.linear(inputs.float(), layer.dequantize(), layer.bias.float())
    assert (layer(inputs) - exact).norm() < (tolerance + 2e-3) * exact.norm()


@needs_int4
@pytest.mark.parametrize("bits", [2, 3])
def test_few_bits_are_moved_so_that_small_weights_lose_nothing(bits):
    layer = layer_of(bits, make=heavy_tailed)
    assert self_test(Int4Pack.prepare(layer, torch.bfloat16), layer) < 3e-3


def test_the_eight_bit_kernel_takes_whole_symmetric_rows():
    layer = layer_of(8, None, zero="symmetric")
    assert Int8Pack.supports(layer, torch.bfloat16)
    assert self_test(Int8Pack.prepare(layer, torch.bfloat16), layer) < 5e-3
    assert not Int8Pack.supports(layer_of(8, 64, zero="symmetric"), torch.bfloat16)
    assert not Int8Pack.supports(layer_of(8, None), torch.bfloat16)


@needs_int4
def test_layers_get_kernels_for_bfloat16_only():
    model = nn.ModuleDict({"a": layer_of(4), "b": layer_of(8, None, zero="symmetric"), "c": layer_of(3, rows=24)})
    stored = model_size(model).resident_bytes
    assert kernels_of(model, dtype=torch.bfloat16) == {"a": "int4pack", "b": "int8pack", "c": "eager"}
    assert model_size(model).resident_bytes > stored
    assert kernels_of(model, dtype=torch.float32) == dict.fromkeys("abc", "eager")
    assert model_size(model).resident_bytes == stored


@needs_int4
def test_float32_inputs_go_the_eager_way_even_beside_a_kernel():
    layer = layer_of(4)
    inputs = torch.randn(2, COLUMNS)
    eager = layer(inputs)
    layer.use(Int4Pack.prepare(layer, torch.bfloat16), torch.float32)
    assert torch.equal(layer(inputs), eager)


@needs_int4
def test_large_batches_are_dequantized_and_multiplied():
    layer = layer_of(4)
    kernel = layer.kernel_for(torch.bfloat16)
    for batch, taken in ((1, True), (INT4_LARGEST_BATCH[1], True), (INT4_LARGEST_BATCH[1] + 1, False)):
        inputs = torch.randn(batch, COLUMNS).bfloat16()
        assert kernel.takes(inputs) is taken
    expected = nn.functional.linear(inputs, layer.dequantize(torch.bfloat16), layer.bias.bfloat16())
    assert torch.equal(layer(inputs), expected)


@needs_int4
def test_inputs_that_want_gradients_go_the_eager_way():
    layer = layer_of(4)
    inputs = torch.randn(2, COLUMNS, dtype=torch.bfloat16, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad is not None


class Wrong(Int4Pack):
    """A kernel that is two percent off."""

    def multiply(self, inputs):
        return super().multiply(inputs) * 1.02


class Silent(Int4Pack):
    """A kernel that gives NaN."""

    def multiply(self, inputs):
        return super().multiply(inputs) * float("nan")


@needs_int4
@pytest.mark.parametrize("kind", [Wrong, Silent])
def test_a_kernel_that_fails_its_self_test_is_refused_and_logged(kind, monkeypatch, caplog):
    layer = layer_of(4)
    monkeypatch.setattr(dispatch, "KERNELS", (kind, Int4Pack))
    with caplog.at_level(logging.WARNING):
        kernel = choose_kernel(layer, torch.bfloat16)
    assert type(kernel) is Int4Pack
    assert "kernel int4pack is off by" in caplog.text


@pytest.fixture
def chosen(monkeypatch):
    """The types that kernels were chosen for while a test ran, one entry a choice."""
    found = []

    def choose(weight, dtype):
        found.append(dtype)
        return choose_kernel(weight, dtype)

    monkeypatch.setattr(linear, "choose_kernel", choose)
    return found


def test_a_kernel_is_chosen_once_when_the_layer_first_multiplies(chosen):
    layer = layer_of(4)
    layer.to(torch.bfloat16).to("cpu")
    assert chosen == []
    for _ in range(3):
        layer(torch.randn(2, COLUMNS).bfloat16())
        layer.to("cpu")
    assert chosen == [torch.bfloat16]


@pytest.mark.parametrize("way", ["load_state_dict", "hold"])
def test_a_kernel_goes_with_the_weight_it_was_made_of(way):
    layer, other = layer_of(4), layer_of(4, make=heavy_tailed)
    inputs = torch.randn(2, COLUMNS).bfloat16()
    expected, before = other(inputs), layer(inputs)
    if way == "hold":
        layer.hold(other.quantized_weight())
        layer.bias = other.bias
    else:
        layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(inputs), expected)
    assert not torch.equal(expected, before)
    layer.to("meta")
    assert layer.kept_tensors == ()


def test_layers_that_only_visit_the_memory_keep_no_copy(chosen):
    layer = layer_of(4)
    expected = nn.functional.linear(torch.ones(1, COLUMNS).bfloat16(), layer.dequantize(torch.bfloat16)) + layer.bias
    cpu_offload(layer, execution_device=torch.device("cpu"), offload_buffers=True)
    assert torch.allclose(layer(torch.ones(1, COLUMNS).bfloat16()).float(), expected.float(), rtol=1e-2, atol=1e-2)
    assert (chosen, layer.kept_tensors, layer.weight_codes.is_meta) == ([], (), True)


def test_a_copy_of_a_layer_has_a_kernel_of_its_own():
    layer, inputs = layer_of(4), torch.randn(2, COLUMNS).bfloat16()
    expected = layer(inputs)
    copied = copy.deepcopy(layer)
    layer.hold(quantize_weight(torch.zeros(ROWS, COLUMNS), "rtn", 4, 64))
    assert torch.equal(copied(inputs), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize("kind", [Humming, GemLite])
def test_gpu_kernels_stay_away_without_a_gpu(kind):
    assert not kind.supports(layer_of(4), torch.bfloat16)
