"""Error compensation against closed forms, and against the plain formula, column by column in float64."""

import pytest
import torch

from reliabit.errors import ReliabitError
from reliabit.quant.input_moments import InputMoments, InputNeeds, MomentSums
from reliabit.quant.methods import QUANTIZERS, needs_inputs
from reliabit.quant.methods._compensation import refit
from reliabit.quant.methods.rtn import min_max_grid
from reliabit.quant.quantizer import quantize_weight

PUBLISHED = {"grid": "minmax", "order": "none", "refit": 0}
ZEROS = ("float", "integer", "symmetric")


def drawn(rows=6, inputs=64, tokens=300, seed=0):
    """A weight, correlated inputs, and what they are in the unquantized model."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(inputs, inputs, generator=generator) * 0.3 + torch.eye(inputs)
    tokens_seen = torch.randn(tokens, inputs, generator=generator) @ mixed
    exact = tokens_seen + 0.2 * torch.randn(tokens, inputs, generator=generator) @ mixed
    return torch.randn(rows, inputs, generator=generator), tokens_seen, exact


def moments_of(inputs, exact=None, weights=None):
    sums = MomentSums(InputNeeds(residual=exact is not None))
    half = len(inputs) // 2
    for part in (slice(0, half), slice(half, None)):
        sums.add(inputs[part], None if exact is None else exact[part], None if weights is None else weights[part])
    return sums.moments()


def output_error(quantized, weight, moments):
    difference = (quantized.dequantize() - weight).double()
    return float((difference @ moments.second.double() * difference).sum())


def naive(weight, moments, *, bits, group, zero, by_activation=False, strength=0.0, damping=0.01):
    """The published formulas with an explicit inverse for each input; grids in float16, as they are stored."""
    work, second = weight.double().clone(), moments.second.double().clone()
    inputs = weight.shape[1]
    second += damping * second.diagonal().mean() * torch.eye(inputs, dtype=torch.float64)
    order = list(range(inputs))
    if by_activation:
        order.sort(key=lambda place: -float(moments.second[place, place]))
    grids, codes = {}, torch.zeros(weight.shape, dtype=torch.uint8)
    for place, column in enumerate(order):
        number = column // group
        if number not in grids:
            own = (weight if by_activation else work)[:, number * group : (number + 1) * group].float()
            grids[number] = [part.half().double() for part in min_max_grid(own, bits=bits, zero=zero)]
        scale, offset = grids[number]
        code = (work[:, [column]] / scale + offset).round().clamp(0, 2**bits - 1)
        codes[:, column] = code[:, 0].to(torch.uint8)
        left, after = order[place:], order[place + 1 :]
        if not after:
            break
        inverse = torch.linalg.inv(second[left][:, left])
        error = (work[:, [column]] - (code - offset) * scale) / inverse[0, 0]
        moved = -error * inverse[0, 1:]
        if strength:
            drift = moments.residual.double()[column, after] @ torch.linalg.inv(second[after][:, after])
            moved = moved + strength * work[:, [column]] * drift
        work[:, after] += moved
    return codes


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("order", ["none", "activation"])
def test_where_inputs_are_independent_there_is_nothing_to_compensate(zero, order):
    weight, _, _ = drawn()
    moments = InputMoments(torch.diag(torch.linspace(0.1, 3, 64)))
    own = quantize_weight(weight, "gptq", 3, 32, zero=zero, inputs=moments, **{**PUBLISHED, "order": order})
    rounded = quantize_weight(weight, "rtn", 3, 32, zero=zero)
    assert torch.equal(own.codes, rounded.codes)
    assert torch.equal(own.scale, rounded.scale)
    assert torch.equal(own.zero, rounded.zero)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"zero": "float"}, {}),
        ({"zero": "symmetric"}, {}),
        ({"zero": "integer", "by_activation": True}, {}),
        ({"zero": "float", "strength": 0.25}, {}),
        ({"zero": "float", "strength": 1.0, "by_activation": True}, {}),
        ({"zero": "float", "group": 160, "strength": 0.5}, {"inputs": 160, "rows": 3, "tokens": 500}),
    ],
)
def test_codes_are_those_of_the_plain_formula_in_float64(options, shape):
    weight, inputs, exact = drawn(**shape)
    moments = moments_of(inputs, exact)
    options = {"bits": 3, "group": 16, **options}
    expected = naive(weight, moments, **options)
    settings = {
        **PUBLISHED,
        "order": "activation" if options.get("by_activation") else "none",
        "residual": options.get("strength", 0.0),
    }
    group = None if options["group"] == weight.shape[1] else options["group"]
    found = quantize_weight(weight, "gptq", 3, group, zero=options["zero"], inputs=moments, **settings)
    assert torch.equal(found.codes, expected)


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_outputs_err_less_than_those_of_rounding(bits, zero):
    weight, inputs, _ = drawn(rows=32)
    moments = moments_of(inputs)
    rounded = output_error(quantize_weight(weight, "rtn", bits, 32, zero=zero), weight, moments)
    published = quantize_weight(weight, "gptq", bits, 32, zero=zero, inputs=moments, **PUBLISHED)
    ours = quantize_weight(weight, "gptq", bits, 32, zero=zero, inputs=moments)
    assert output_error(ours, weight, moments) < output_error(published, weight, moments) < rounded


def test_moments_are_those_of_all_tokens():
    _, inputs, exact = drawn(inputs=96)
    weights = torch.rand(len(inputs), generator=torch.Generator().manual_seed(1))
    plain, weighted = moments_of(inputs), moments_of(inputs, exact, weights)
    values, scaled = inputs.double(), inputs.double() * weights.double()[:, None]
    torch.testing.assert_close(plain.second.double(), values.T @ values / len(values), rtol=1e-4, atol=1e-4)
    total = weights.double().sum()
    torch.testing.assert_close(weighted.second.double(), values.T @ scaled / total, rtol=1e-4, atol=1e-4)
    drift = (exact.double() - values).T @ scaled / total
    torch.testing.assert_close(weighted.residual.double(), drift, rtol=1e-4, atol=1e-4)
    assert plain.residual is None


def test_weights_that_are_all_one_change_nothing():
    _, inputs, _ = drawn()
    assert torch.equal(moments_of(inputs).second, moments_of(inputs, weights=torch.ones(len(inputs))).second)


def test_fitted_grids_are_the_least_squares_ones():
    weight, inputs, _ = drawn(rows=4, inputs=32)
    moments = moments_of(inputs)
    start = quantize_weight(weight, "rtn", 2, None)
    scale, zero = refit(
        weight,
        start.codes,
        start.scale.float(),
        start.zero.float(),
        moments,
        damping=0.0,
        strength=0.0,
        move_zero=True,
        sweeps=1,
        usable=lambda scale, zero: scale != 0,
    )
    outputs = inputs.double() @ weight.double().T
    for row in range(4):
        codes = inputs.double() @ torch.stack([start.codes[row].double(), torch.ones(32).double()], dim=1)
        slope, offset = torch.linalg.lstsq(codes, outputs[:, row]).solution
        torch.testing.assert_close(scale[row, 0].double(), slope, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(zero[row, 0].double(), -offset / slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("zero", ZEROS)
def test_fitting_again_never_adds_to_the_error(zero):
    weight, inputs, _ = drawn(rows=16)
    moments = moments_of(inputs)
    errors = [
        output_error(quantize_weight(weight, "gptq", 2, 16, zero=zero, inputs=moments, refit=refits), weight, moments)
        for refits in (0, 1, 3)
    ]
    assert errors[1] < errors[0]
    assert errors[2] < errors[1] * 1.001


@pytest.mark.parametrize("order", ["none", "activation"])
def test_inputs_that_are_always_zero_are_rounded_and_disturb_nothing(order):
    weight, inputs, _ = drawn()
    dead = torch.arange(0, 64, 8)
    inputs[:, dead] = 0
    moments = moments_of(inputs)
    found = quantize_weight(weight, "gptq", 3, 16, inputs=moments, **{**PUBLISHED, "order": order})
    if order == "activation":
        assert torch.equal(found.codes[:, dead], quantize_weight(weight, "rtn", 3, 16).codes[:, dead])
    assert (found.dequantize() - weight)[:, dead].abs().max() <= found.scale.float().max()
    assert output_error(found, weight, moments) < output_error(quantize_weight(weight, "rtn", 3, 16), weight, moments)


def test_nothing_but_zeros_is_rounded_to_nearest():
    weight, _, _ = drawn()
    found = quantize_weight(weight, "gptq", 4, 32, inputs=InputMoments(torch.zeros(64, 64)), **PUBLISHED)
    assert torch.equal(found.codes, quantize_weight(weight, "rtn", 4, 32).codes)


def test_damping_grows_until_moments_can_be_factorized():
    weight, inputs, _ = drawn(tokens=20)
    found = quantize_weight(weight, "gptq", 3, 32, inputs=moments_of(inputs), damping=1e-9)
    assert torch.isfinite(found.scale).all()


def test_moments_that_stay_singular_are_refused_with_the_layers_name():
    weight, _, _ = drawn()
    second = torch.eye(64)
    second[:32, :32] -= 2 * torch.ones(32, 32)
    with pytest.raises(ReliabitError, match=r"layers\.3\.up_proj: the second moments .* are singular, even with 1 of"):
        quantize_weight(weight, "gptq", 3, 32, inputs=InputMoments(second), name="layers.3.up_proj")


def test_moments_that_are_not_finite_are_refused_with_the_layers_name():
    weight, inputs, _ = drawn()
    inputs[7, 3] = torch.inf
    with pytest.raises(ReliabitError, match=r"layers\.3\.up_proj: the second moments of its inputs are not finite"):
        quantize_weight(weight, "gptq", 3, 32, inputs=moments_of(inputs), name="layers.3.up_proj")


def test_a_weight_too_large_for_half_precision_keeps_its_scales_in_float32():
    weight, inputs, _ = drawn()
    found = quantize_weight(weight * 1e7, "gptq", 3, 32, inputs=moments_of(inputs))
    assert found.layout.metadata == "float32"
    small = quantize_weight(weight, "gptq", 3, 32, inputs=moments_of(inputs), metadata="float32")
    assert torch.equal(found.codes, small.codes)


def test_without_inputs_it_is_refused():
    with pytest.raises(ReliabitError, match=r"w: method 'gptq' learns from the inputs .* no calibration images"):
        quantize_weight(torch.ones(2, 32), "gptq", 4, 32, name="w")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refit": -1}, "refit=-1 is below 0"),
        ({"residual": 1.5}, "residual=1.5 is outside 0 to 1"),
        ({"damping": 2.0}, "damping=2.0 is above .*largest_damping=1.0"),
        ({"order": "random"}, "order=random"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ReliabitError, match=message):
        quantize_weight(torch.ones(2, 32), "gptq", 4, 32, inputs=InputMoments(torch.eye(32)), **options)


def test_sources_tell_what_the_classes_do():
    """Whether a method learns from inputs is read in its source, so that torch need not be imported."""
    assert {name: needs_inputs(name) for name in QUANTIZERS.names()} == {
        name: QUANTIZERS[name].needs_inputs for name in QUANTIZERS.names()
    }
    assert not needs_inputs("nobody's")
