import pytest
import torch

from quant.samples import heavy_tailed
from reliabit.errors import ReliabitError
from reliabit.quant import quantize_weight


def with_value(value):
    weight = heavy_tailed(4, 64)
    weight[2, 7] = value
    return weight


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value):
    with pytest.raises(ReliabitError, match=r"^model\.up_proj: 1 of 256 weights are NaN or infinite$"):
        quantize_weight(with_value(value), "hqq", 4, 64, name="model.up_proj")


def test_weights_beyond_the_arithmetic_are_refused():
    weight = torch.tensor([[-3.4e38, 3.4e38]]).repeat(1, 16)
    with pytest.raises(ReliabitError, match="too large"):
        quantize_weight(weight, "rtn", 4, 32)


@pytest.mark.parametrize(
    ("method", "bits", "group_size", "options", "message"),
    [
        ("hqq", 0, 64, {}, "0 bits are not supported; choose from 1 to 8"),
        ("hqq", 9, 64, {}, "9 bits are not supported"),
        ("hqq", 2.5, 64, {}, "2.5 bits are not supported"),
        ("hqq", True, 64, {}, "True bits are not supported"),
        ("hqq", 4, 48, {}, "group size 48 does not divide its 64 inputs"),
        ("hqq", 4, 8, {}, "group size 8 is not supported; choose 16 to 256"),
        ("hqq", 4, 512, {}, "group size 512 is not supported"),
        ("hqq", 4, -1, {}, "group size -1 is not supported"),
        ("gptx", 4, 64, {}, "unknown quantization method 'gptx'; choose from gptq, hqq, hqq_plus, rtn"),
        ("hqq", 4, 64, {"zero": "none"}, "unknown kind of zero 'none'; choose from float, integer, symmetric"),
        ("hqq", 4, 64, {"solver": "fast"}, "unknown solver 'fast'; choose from chunked, library"),
        ("rtn", 4, 64, {"solver": "library"}, "solver 'library' runs method 'hqq'"),
        ("hqq", 4, 64, {"solver": "library", "zero": "symmetric"}, "with float zeros"),
        ("hqq", 7, 64, {"solver": "library"}, "the library hqq has no 7 bits"),
        ("hqq", 4, 64, {"p_norm": 0.0}, r"p_norm 0.0 is outside \(0, 4\]"),
        ("hqq", 4, 64, {"iterations": 0}, "0 iterations are too few"),
        ("hqq", 4, 64, {"metadata": "int8"}, "scales cannot be 'int8'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(method, bits, group_size, options, message):
    with pytest.raises(ReliabitError, match=message) as caught:
        quantize_weight(heavy_tailed(4, 64), method, bits, group_size, name="up_proj", **options)
    assert str(caught.value).startswith("up_proj: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [torch.zeros(64), torch.zeros(2, 64, dtype=torch.int32), torch.zeros(1, 2, 64)])
def test_only_floating_matrices_are_quantized(weight):
    with pytest.raises(ReliabitError, match="a floating-point matrix is needed"):
        quantize_weight(weight, "hqq", 4, 64)


def test_the_weight_itself_is_left_alone():
    weight = heavy_tailed(4, 64)
    before = weight.clone()
    for method in ("rtn", "hqq", "hqq_plus"):
        quantize_weight(weight, method, 4, 64)
    assert torch.equal(weight, before)
