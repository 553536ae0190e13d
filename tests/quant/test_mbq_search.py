import itertools

import pytest
import torch
from mbq_judgement import judge_scales
from torch import nn

from quant.calibration_samples import LAYERS, LINEARS, random_batch, schemes_of
from quant.samples import FAMILIES
from reliabit.errors import ReliabitError
from reliabit.quant import Calibration, ResidentDecoder, Scheme, collect, default_plan, quantize_model
from reliabit.quant.mbq import search as candidates
from reliabit.quant.mbq.decoder import walk_observed
from reliabit.quant.mbq.groups import GROUPS
from reliabit.quant.mbq.losses import GramLoss
from reliabit.quant.mbq.output_loss import OutputLoss, Weighing, drawn_loss, full_loss
from reliabit.quant.mbq.search import candidate_scales, rounded_weights, search_decoder
from reliabit.quant.settings import CalibrationConfig, ScalingConfig


def awq_fake_quant(weight, bits, group):
    """Round to nearest with a whole zero, group-wise, as AWQ and MBQ do."""
    rows, columns = weight.shape
    groups = weight.reshape(-1, group)
    low, high = groups.min(1, keepdim=True).values.clamp(max=0), groups.max(1, keepdim=True).values.clamp(min=0)
    step = (high - low) / (2**bits - 1)
    zero = (-low / step).round().clamp(0, 2**bits - 1)
    codes = ((groups / step).round() + zero).clamp(0, 2**bits - 1)
    return ((codes - zero) * step).reshape(rows, columns)


def awq_search(run, weights, inputs, bits, group):
    """AWQ's loop over 20 ratios for linear layers that share their inputs: its exponent, its scale, its losses."""
    magnitude = inputs.abs().mean(0)
    with torch.no_grad():
        reference = run(weights)
        losses, scales = [], []
        for step in range(20):
            scale = magnitude.pow(step / 20).clamp(min=1e-4)
            scale = scale / (scale.max() * scale.min()).sqrt()
            rounded = [awq_fake_quant(weight * scale, bits, group) / scale for weight in weights]
            losses.append(float((run(rounded) - reference).pow(2).mean()))
            scales.append(scale)
    best = min(range(20), key=losses.__getitem__)
    return best / 20, scales[best], losses


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_without_modality_weights_the_search_is_awq(bits, reference_model, tmp_path):
    """The MLP's two groups of one layer, against a loop of AWQ's own kind that shares no code with the search."""
    model = reference_model("qwen2_vl")
    decoder = ResidentDecoder(model, LAYERS["qwen2_vl"])
    mlp = decoder.layers[0].mlp
    with torch.no_grad():
        # Channels of very different size, as in trained models: without them no scaling is best.
        decoder.layers[0].post_attention_layernorm.weight.copy_(torch.linspace(-2, 2, 128).exp())
        mlp.up_proj.weight.mul_(torch.linspace(-1.5, 1.5, mlp.up_proj.out_features).exp()[:, None])
        for linear in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            # Weights stored in bfloat16 lie exactly between two codes now and then, and ties are anyone's to break.
            linear.weight.add_(torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0)) * 1e-4)
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    statistics = collect(decoder, batches, tmp_path / "s", key="k")
    options = {"method": "rtn", "bits": bits, "group_size": 64, "zero": "integer", "metadata": "float32"}
    settings = ScalingConfig(search="faithful", modality_weight="none", loss="mse", activation="all")
    found = search_decoder(decoder, schemes_of(2, **options), statistics=statistics, settings=settings, batches=batches)
    by_group = {scale.group: scale for scale in found if scale.layer == 0}
    seen = {}
    hooks = [
        module.register_forward_pre_hook(lambda m, given, key=key: seen.setdefault(key, []).append(given[0]))
        for key, module in (("gate_up", mlp), ("down", mlp.down_proj))
    ]
    with torch.no_grad():
        for batch in batches:
            model(**batch.inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    inputs = {key: torch.cat([part.flatten(0, 1) for part in parts]) for key, parts in seen.items()}

    def run_mlp(weights):
        gate, up = (inputs["gate_up"] @ weight.T for weight in weights)
        return (nn.functional.silu(gate) * up) @ mlp.down_proj.weight.T

    runs = {
        "gate_up": (run_mlp, [mlp.gate_proj.weight, mlp.up_proj.weight]),
        "down": (lambda weights: inputs["down"] @ weights[0].T, [mlp.down_proj.weight]),
    }
    for name, (run, weights) in runs.items():
        exponent, scale, losses = awq_search(run, weights, inputs[name], bits, 64)
        assert by_group[name].exponent == exponent > 0
        torch.testing.assert_close(by_group[name].scale, scale, rtol=1e-4, atol=1e-6)
        assert by_group[name].loss_before == pytest.approx(losses[0], rel=1e-3)
        assert by_group[name].loss_after == pytest.approx(min(losses), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_scaling_is_always_a_candidate_and_never_beaten_by_what_is_chosen(family, reference_model, tmp_path):
    model = reference_model(family)
    decoder = ResidentDecoder(model, LAYERS[family])
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    statistics = collect(decoder, batches, tmp_path / "s", key="k", settings=CalibrationConfig(gram=True))
    for mode, weight, loss, activation in itertools.product(
        ("fast", "faithful"), ("gradient", "none", "token"), ("mae", "mse"), ("all", "masked", "balanced")
    ):
        if mode == "faithful" and (loss, activation) != ("mae", "all"):
            continue
        settings = ScalingConfig(
            search=mode, modality_weight=weight, loss=loss, activation=activation, ratios=6, finalists=1
        )
        planned = schemes_of(2, method="hqq", bits=3)
        scales = search_decoder(decoder, planned, statistics=statistics, settings=settings, batches=batches)
        assert len(scales) == 8
        assert all(0 < found.loss_after <= found.loss_before for found in scales)
        assert all(torch.equal(found.scale, torch.ones_like(found.scale)) for found in scales if found.exponent == 0)


@pytest.mark.medium
@pytest.mark.parametrize("weight", ["gradient", "none"])
def test_gram_matrices_judge_as_all_tokens_do(weight, trained, tmp_path):
    decoder, batches = trained
    statistics = collect(decoder, batches, tmp_path / "s", key="k", settings=CalibrationConfig(gram=True))
    scheme, group = Scheme("rtn", 3), GROUPS[3]
    losses = {"mse": [], "mae": []}

    def visit(index, layer, seen):
        linear = layer.mlp.down_proj
        rounded = next(rounded_weights(linear.weight, torch.ones(1, linear.in_features), scheme))
        for loss, found in losses.items():
            weighing = Weighing(statistics, ScalingConfig(modality_weight=weight, loss=loss), index)
            by_gram = drawn_loss(layer, group, statistics.layer(index), weighing)
            assert isinstance(by_gram, GramLoss)
            every = full_loss(layer, group, seen, batches, weighing)
            found.append((by_gram.judge({"weight": rounded}), every.judge({"weight": rounded})))

    walk_observed(decoder, batches, visit)
    for by_gram, every in losses["mse"]:
        assert by_gram == pytest.approx(every, rel=1e-4)
    for by_gram, every in losses["mae"]:
        assert by_gram == pytest.approx(every, rel=0.1)


def test_the_first_candidate_scales_nothing():
    scales = candidate_scales(torch.tensor([0.0, 1e-9, 3.0, 1e6]), 20)
    assert torch.equal(scales[0], torch.ones(4))
    assert torch.isfinite(scales).all()
    assert (scales > 0).all()


def test_large_layers_are_rounded_in_smaller_stacks_to_the_same_weights(monkeypatch):
    weight, scales = torch.randn(32, 64), torch.rand(7, 64) + 0.5
    scheme = Scheme("rtn", 3, 32)
    together = torch.stack(list(rounded_weights(weight, scales, scheme)))
    monkeypatch.setattr(candidates, "LARGEST_STACK", 2 * weight.numel())
    assert torch.equal(torch.stack(list(rounded_weights(weight, scales, scheme))), together)


def test_a_scale_is_searched_for_what_is_planned_alone(reference_model, tmp_path):
    model = reference_model("idefics3")
    decoder = ResidentDecoder(model, LAYERS["idefics3"])
    statistics = collect(decoder, [random_batch(model, seed=0)], tmp_path / "s", key="k")
    planned = {1: {"mlp.up_proj": Scheme("rtn", 2)}}
    (found,) = search_decoder(decoder, planned, statistics=statistics, settings=ScalingConfig())
    assert (found.layer, found.group) == (1, "gate_up")
    everything = {1: {path: Scheme("rtn", 2) for path in LINEARS}}
    both = search_decoder(decoder, everything, statistics=statistics, settings=ScalingConfig())
    assert found.loss_before < next(scale.loss_before for scale in both if scale.group == "gate_up")


@pytest.mark.parametrize("method", ["rtn", "hqq", "hqq_plus"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_scaled_model_is_quantized_by_each_solver(family, method, reference_model, tmp_path):
    model = reference_model(family)
    batches = [random_batch(model, seed=seed) for seed in range(2)]
    statistics = collect(ResidentDecoder(model, LAYERS[family]), batches, tmp_path / "s", key="k")
    with torch.no_grad():
        before = model(**batches[0].inputs, use_cache=False).logits
    report = quantize_model(model, default_plan(Scheme(method, 8)), Calibration(statistics))
    assert len(report.scales) == 8
    assert {module.scheme.method for module in report.modules} == {method}
    with torch.no_grad():
        after = model(**batches[0].inputs, use_cache=False).logits
    assert float((after - before).norm() / before.norm()) < 0.03


def test_a_faithful_search_needs_the_batches(reference_model, tmp_path):
    model = reference_model("idefics3")
    statistics = collect(
        ResidentDecoder(model, LAYERS["idefics3"]), [random_batch(model, seed=0)], tmp_path / "s", key="k"
    )
    calibration = Calibration(statistics, ScalingConfig(search="faithful"))
    with pytest.raises(ReliabitError, match="a faithful scale search needs the calibration batches"):
        quantize_model(model, default_plan(Scheme("rtn", 3)), calibration)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "slow"}, "search=slow is not a value of this key; choose one of: none, fast, faithful"),
        ({"search": "none"}, "search=none searches no scales; set fast or faithful"),
        ({"search": "fast", "loss": "max"}, "loss=max is not a value of this key; choose one of: mae, mse"),
        ({"search": "fast", "ratios": 0}, "ratios=0 must be above zero"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ReliabitError, match=message):
        Calibration(None, ScalingConfig(**options))


@pytest.mark.medium
@pytest.mark.parametrize("bits", [3, 4])
def test_the_fast_search_is_as_good_as_the_faithful_one(bits, trained, tmp_path):
    """On the committed reference models and their data: within half a percent of the faithful search's loss."""
    decoder, batches = trained
    statistics = collect(decoder, batches, tmp_path / "s", key="k")
    planned = schemes_of(decoder.depth, method="rtn", bits=bits)
    found = {
        mode: search_decoder(
            decoder, planned, statistics=statistics, settings=ScalingConfig(search=mode), batches=batches
        )
        for mode in ("fast", "faithful")
    }
    settings = ScalingConfig()
    judged = {
        mode: judge_scales(decoder, scales, planned, statistics=statistics, settings=settings, batches=batches)
        for mode, scales in found.items()
    }
    assert judged["faithful"] == pytest.approx(sum(scale.loss_after for scale in found["faithful"]), rel=1e-5)
    assert judged["fast"] <= 1.005 * judged["faithful"]
    assert judged["faithful"] < 0.97 * sum(scale.loss_before for scale in found["faithful"])
    drawn, weighing = statistics.layer(0), Weighing(statistics, ScalingConfig(), 0)
    evidence = drawn_loss(decoder.layers[0], GROUPS[3], drawn, weighing)
    assert isinstance(evidence, OutputLoss)
    (call,) = evidence.calls
    assert len(call.weights) < len(statistics.tokens.kinds) / 4, "the fast search looked at all tokens"
