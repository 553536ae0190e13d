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
from reliabit.quant.kernels import dispatch, tiles
from reliabit.quant.kernels.cpu import TILED_BATCH, Int4Pack, Int8Pack
from reliabit.quant.kernels.cuda import GemLite, Humming
from reliabit.quant.kernels.dispatch import TOLERANCE, choose_kernel, self_test
from reliabit.quant.kernels.nibbles import Plane

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
    assert model_size(model).resident_bytes <= 1.01 * stored
    assert kernels_of(model, dtype=torch.float32) == dict.fromkeys("abc", "eager")
    assert model_size(model).resident_bytes == stored


@needs_int4
@pytest.mark.parametrize(("bits", "zero", "group_size"), list(product((2, 3, 4, 5, 8), ZEROS, (64, None))))
def test_a_layer_with_a_kernel_keeps_one_copy_and_gives_its_buffers_back_to_the_last_bit(bits, zero, group_size):
    layer = layer_of(bits, group_size, zero=zero, rows=192)
    before, exact = {name: value.clone() for name, value in layer.state_dict().items()}, layer.dequantize()
    size = model_size(layer)
    assert layer.kernel_for(torch.bfloat16) is not None
    with_kernel = model_size(layer)
    assert (with_kernel.stored_bytes, with_kernel.quantized_bytes) == (size.stored_bytes, size.quantized_bytes)
    assert with_kernel.resident_bytes <= 1.06 * size.resident_bytes
    for again in (layer.state_dict(), copy.deepcopy(layer).state_dict(), layer.to(torch.bfloat16).state_dict()):
        assert list(again) == list(before)
        assert all(torch.equal(again[name], value) for name, value in before.items() if name != "bias")
        assert all(again[name].dtype == value.dtype for name, value in before.items() if name != "bias")
    assert torch.equal(layer.dequantize(), exact)
    assert layer.kernel_for(torch.float32) is None
    assert model_size(layer).resident_bytes == size.resident_bytes - layer.bias.nbytes


@needs_int4
def test_what_goes_to_another_device_is_the_packed_form():
    layer = layer_of(3, rows=64)
    layer.kernel_for(torch.bfloat16)
    layer.to("meta")
    assert layer.kept_tensors == ()
    assert {name: value.device.type for name, value in layer.named_buffers()} == dict.fromkeys(
        ("weight_codes", "weight_scale", "weight_zero"), "meta"
    )


@needs_int4
def test_float32_inputs_go_the_eager_way_even_beside_a_kernel():
    layer = layer_of(4)
    inputs = torch.randn(2, COLUMNS)
    eager = layer(inputs)
    layer.use(Int4Pack.prepare(layer, torch.bfloat16), torch.float32)
    assert torch.equal(layer(inputs), eager)


@needs_int4
@pytest.mark.parametrize("tile", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bits", "rows"), [(4, 80), (4, 1088), (3, 128), (2, 96), (1, 64), (6, 64)])
def test_many_rows_of_inputs_are_multiplied_by_tiles(bits, rows, tile, monkeypatch):
    monkeypatch.setattr(tiles, "tile_type", lambda: tile)
    layer = layer_of(bits, 64, rows=rows, columns=704)
    kernel = layer.kernel_for(torch.bfloat16)
    inputs = torch.randn(TILED_BATCH, 704).bfloat16()
    exact = inputs.float() @ layer.dequantize().T
    for some in (inputs, inputs[1:]):
        assert (kernel.multiply(some) - exact[-len(some) :]).norm() < 6e-3 * exact.norm()
    assert (kernel.multiply(inputs) - exact).norm() < (2e-3 if tile == torch.float32 else 4e-3) * exact.norm()


def test_many_rows_of_inputs_are_multiplied_by_tiles_of_eight_bits():
    layer = layer_of(8, None, zero="symmetric")
    inputs = torch.randn(TILED_BATCH, COLUMNS).bfloat16()
    exact = inputs.float() @ layer.dequantize().T
    assert (Int8Pack.prepare(layer, torch.bfloat16).multiply(inputs) - exact).norm() < 4e-3 * exact.norm()


@needs_int4
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_products_do_not_depend_on_the_number_of_threads(bits):
    kernel = layer_of(bits, rows=256).kernel_for(torch.bfloat16)
    threads = torch.get_num_threads()
    inputs = torch.randn(TILED_BATCH, COLUMNS).bfloat16()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(torch.cat([kernel.multiply(inputs), kernel.multiply(inputs[:1])]))
    torch.set_num_threads(threads)
    assert torch.equal(*found)


@needs_int4
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [16, 48, 64, 80, 192])
def test_codes_that_share_nibbles_come_apart_again(bits, rows):
    codes = torch.randint(0, 2**bits, (rows, 96), dtype=torch.uint8)
    plane = Plane.of(lambda some: codes[some], rows=rows, bits=bits)
    assert torch.equal(plane.codes(), codes)
    if not rows % 64:
        assert 8 * sum(word.nbytes for word in plane.words) == bits * codes.numel()


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
