"""What layers learn from is what the quantized layers before them make, in memory, streamed, and after a kill."""

import pytest
import torch

import reliabit.quant.streaming.written_shards as parts
from quant.calibration_samples import LAYERS, random_batch
from quant.test_quantize_checkpoint import contents, interrupted, run
from reliabit.errors import ReliabitError
from reliabit.quant import (
    Calibration,
    InputCalibration,
    ResidentDecoder,
    Scheme,
    collect,
    default_plan,
    export_compressed_tensors,
    exportable_plan,
    load_checkpoint,
    packed_modules,
    plan_from_config,
    quantize_model,
)
from reliabit.quant.input_moments import MomentSums
from reliabit.quant.mbq.groups import GROUPS
from reliabit.quant.methods.gptq import Gptq
from reliabit.quant.quantized_prefix import check_places, token_weights
from reliabit.quant.settings import ScalingConfig

FAMILY = "qwen2_vl"
PATH = LAYERS[FAMILY]
QUICK = {"grid": "minmax"}
MIXED = plan_from_config(
    [
        {"components": ["language_attention"], "method": "gptq", "bits": 3, "options": {**QUICK, "residual": 0.5}},
        {"components": ["language_mlp"], "method": "gptq", "bits": 2, "options": QUICK, "exclude": "down"},
        {"pattern": "language_model.*down_proj", "method": "hqq", "bits": 4},
        {"components": ["vision"], "layers": [0], "method": "hqq", "bits": 4},
    ]
)


def gptq(bits=3, **options):
    return default_plan(Scheme("gptq", bits, options={**QUICK, **options}))


@pytest.fixture
def batches(reference_model):
    model = reference_model(FAMILY)
    return [random_batch(model, seed=seed, padding=3 * seed) for seed in range(2)]


@pytest.fixture
def statistics(reference_model, batches, tmp_path):
    return collect(ResidentDecoder(reference_model(FAMILY), PATH), batches, tmp_path / "statistics", key="a key")


def seen_inputs(model, batches, names):
    """The inputs of linear layers in whole passes of a model, tokens that are no padding, in float64."""
    found, hooks = {name: [] for name in names}, []
    for name in names:

        def keep(_, positional, name=name):
            found[name].append(positional[0])

        hooks.append(model.get_submodule(name).register_forward_pre_hook(keep))
    with torch.no_grad():
        for batch in batches:
            model(**batch.inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {
        name: torch.cat([states[batch.attended] for states, batch in zip(given, batches, strict=True)]).double()
        for name, given in found.items()
    }


@pytest.fixture
def recorded(monkeypatch):
    """The moments that each layer is quantized with, by its name."""
    found, real = {}, Gptq.quantize_with

    def recording(self, weight, scheme, inputs, *, name):
        found[name] = inputs
        return real(self, weight, scheme, inputs, name=name)

    monkeypatch.setattr(Gptq, "quantize_with", recording)
    return found


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_each_layer_learns_from_what_the_quantized_ones_before_it_make(family, reference_model, recorded):
    model, plain = reference_model(family), reference_model(family)
    batches = [random_batch(model, seed=seed, padding=3 * seed) for seed in range(2)]
    quantize_model(model, gptq(residual=0.5), inputs=InputCalibration(LAYERS[family], batches))
    assert recorded.keys() == packed_modules(model).keys()
    quantized, exact = (seen_inputs(one, batches, recorded) for one in (model, plain))
    for name, moments in recorded.items():
        states = quantized[name]
        expected = states.T @ states / len(states)
        torch.testing.assert_close(moments.second.double(), expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
        drift = (exact[name] - states).T @ states / len(states)
        torch.testing.assert_close(moments.residual.double(), drift, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_layers_of_the_same_inputs_share_their_moments(reference_model, batches, recorded):
    model = reference_model(FAMILY)
    quantize_model(model, gptq(), inputs=InputCalibration(PATH, batches))
    for group in GROUPS:
        assert len({id(recorded[f"{PATH}.0.{path}"]) for path in group.linears}) == 1


def test_a_streamed_checkpoint_is_what_is_quantized_in_memory(reference_model, reference_folder, batches, tmp_path):
    model = reference_model(FAMILY, torch.bfloat16)
    inputs = InputCalibration(PATH, batches, dtype=torch.bfloat16)
    report = quantize_model(model, MIXED, inputs=inputs)
    streamed = run(reference_folder(FAMILY), tmp_path / "checkpoint", MIXED, inputs=inputs)
    assert streamed == report
    found = load_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("search", ["fast", "faithful"])
def test_what_was_killed_goes_on_to_the_same_bytes(
    search, reference_folder, batches, statistics, tmp_path, monkeypatch
):
    source = reference_folder(FAMILY)
    options = {
        "plan": MIXED,
        "inputs": InputCalibration(PATH, batches, statistics),
        "calibration": Calibration(statistics, ScalingConfig(search=search, ratios=3), batches),
        # A layer a shard.
        "shard_bytes": 2**14,
    }
    run(source, tmp_path / "whole", **options)
    interrupted(source, tmp_path / "checkpoint", monkeypatch, 3, module=parts, **options)
    run(source, tmp_path / "checkpoint", **options)
    assert contents(tmp_path / "checkpoint") == contents(tmp_path / "whole")


def test_other_calibration_images_start_over(reference_folder, reference_model, batches, tmp_path, monkeypatch, caplog):
    source, options = reference_folder(FAMILY), {"plan": gptq(), "shard_bytes": 2**14}
    interrupted(source, tmp_path / "checkpoint", monkeypatch, 2, inputs=InputCalibration(PATH, batches), **options)
    run(source, tmp_path / "checkpoint", inputs=InputCalibration(PATH, batches[:1]), **options)
    assert "starting over" in caplog.text


def test_weights_of_tokens_are_those_of_the_statistics(reference_model, batches, statistics, monkeypatch):
    given, real = [], MomentSums.add

    def recording(self, inputs, exact=None, weights=None):
        given.append((self.needs.weighting, weights))
        return real(self, inputs, exact, weights)

    monkeypatch.setattr(MomentSums, "add", recording)
    for weighting in ("none", "modality", "token"):
        inputs = InputCalibration(PATH, batches, statistics)
        quantize_model(reference_model(FAMILY), gptq(weighting=weighting), inputs=inputs)
    # Of each layer four groups with two batches each; the first of a layer is before its attention.
    by_weighting = {
        name: [weights for kind, weights in given if kind == name] for name in ("none", "modality", "token")
    }
    assert all(weights is None for weights in by_weighting["none"])
    second = statistics.tokens.of_batch(1)
    vision = statistics.tokens.kinds[second] == 1
    modality, token = by_weighting["modality"][1], by_weighting["token"][1]
    assert torch.equal(modality[vision], torch.full((int(vision.sum()),), float(statistics.ratios[0, 0])))
    assert torch.equal(modality[~vision], torch.ones(int((~vision).sum())))
    assert torch.equal(token, token_weights(statistics.gradients[0, 0])[second])
    # And that of the group before the MLP's last product is of the MLP.
    assert torch.equal(by_weighting["token"][7], token_weights(statistics.gradients[0, 1])[second])


@pytest.mark.parametrize("bits", [4, 3])
def test_it_is_exported_as_others_are(bits, reference_model, batches, tmp_path):
    model = reference_model(FAMILY, torch.bfloat16)
    quantize_model(model, exportable_plan(gptq(bits)), inputs=InputCalibration(PATH, batches))
    export_compressed_tensors(model, tmp_path / "exported")
    assert {module.layout.zero for module in packed_modules(model).values()} == {
        "integer" if bits == 4 else "symmetric"
    }
    assert {module.layout.metadata for module in packed_modules(model).values()} == {"bfloat16"}


def test_only_decoder_layers_are_looked_at(reference_model, batches):
    plan = plan_from_config([{"components": ["vision"], "method": "gptq", "bits": 4}])
    model = reference_model(FAMILY)
    with pytest.raises(
        ReliabitError, match=r"visual\.blocks\.0.*: method gptq learns .* another method, such as hqq_plus"
    ):
        quantize_model(model, plan, inputs=InputCalibration(PATH, batches))
    assert not packed_modules(model)
    with pytest.raises(ReliabitError, match="lm_head: method gptq"):
        check_places({"lm_head": Scheme("gptq")}, path=PATH)


def test_what_is_missing_is_said_before_anything_is_quantized(reference_model, reference_folder, batches, tmp_path):
    model, source = reference_model(FAMILY), reference_folder(FAMILY)
    for inputs, options, message in (
        (None, {}, "there are no calibration images"),
        (InputCalibration(PATH, []), {}, "the calibration set is empty"),
        (InputCalibration(PATH, batches), {"weighting": "token"}, "token weights are of calibration statistics"),
    ):
        with pytest.raises(ReliabitError, match=message):
            quantize_model(model, gptq(**options), inputs=inputs)
        with pytest.raises(ReliabitError, match=message):
            run(source, tmp_path / "checkpoint", gptq(**options), inputs=inputs)
    assert not packed_modules(model)
    assert not list(tmp_path.iterdir())


def test_layers_that_compute_something_else_are_refused(reference_model, batches):
    model = reference_model(FAMILY)
    for layer in model.get_submodule(PATH):
        layer.register_forward_hook(lambda _, __, output: output * 1.5)
    with pytest.raises(ReliabitError, match="compute something else than Llama's"):
        quantize_model(model, gptq(), inputs=InputCalibration(PATH, batches))
    assert not packed_modules(model)
