import dataclasses

import numpy as np
import pytest
import torch

from quant.calibration_samples import LAYERS, random_batch, schemes_of
from quant.samples import FAMILIES
from reliabit.errors import ReliabitError
from reliabit.quant import ResidentDecoder, collect
from reliabit.quant.mbq.calibration_set import ANSWER, VISION, Tokens
from reliabit.quant.mbq.search import search_decoder
from reliabit.quant.mbq.sensitivity import ratio_intervals, sequence_means
from reliabit.quant.settings import CalibrationConfig, ScalingConfig

PLACES = {"attention": "self_attn.o_proj", "mlp": "mlp.down_proj"}


def by_autograd(model, family, batches):
    """Ratios from one ordinary backward pass a sequence through the whole model, weight gradients and all."""
    layers = model.get_submodule(LAYERS[family])
    model.requires_grad_(True)
    sums = torch.zeros(len(layers), 2, 2)
    for batch in batches:
        for row in range(len(batch.targets)):
            outputs = {}
            hooks = [
                layer.get_submodule(path).register_forward_hook(
                    lambda module, given, output, key=(index, place), to=outputs: to.update({key: output})
                )
                for index, layer in enumerate(layers)
                for place, path in enumerate(PLACES.values())
            ]
            logits = model(**batch.inputs, use_cache=False).logits[row]
            chosen = batch.answer[row]
            loss = torch.nn.functional.cross_entropy(logits[chosen], batch.targets[row][chosen])
            found = torch.autograd.grad(loss, list(outputs.values()))
            for hook in hooks:
                hook.remove()
            for (index, place), gradient in zip(outputs, found, strict=True):
                size = gradient[row].abs().mean(-1)
                sums[index, place, ANSWER] += size[chosen].mean()
                sums[index, place, VISION] += size[batch.vision[row]].mean()
    plain = sums[..., VISION] / sums[..., ANSWER]
    return torch.maximum(plain, torch.from_numpy(np.median(plain.numpy(), axis=0)))


@pytest.mark.parametrize("family", FAMILIES)
def test_ratios_equal_those_of_a_plain_backward_pass(family, reference_model, tmp_path):
    model = reference_model(family)
    batches = [random_batch(model, seed=seed, sequences=2, padding=seed) for seed in range(2)]
    statistics = collect(ResidentDecoder(model, LAYERS[family]), batches, tmp_path / "s", key="k")
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = by_autograd(model, family, batches)
    torch.testing.assert_close(statistics.ratios, expected, rtol=1e-4, atol=1e-7)
    last = sequence_means(statistics.gradients, statistics.tokens)[-1, :, VISION]
    assert float(last.max()) == 0, "no image token of the last layer reaches an answer"


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family, reference_model, tmp_path):
    model = reference_model(family)
    decoder, found = ResidentDecoder(model, LAYERS[family]), {}
    settings = CalibrationConfig(tokens=20, contexts=3, gram=True)
    for padding in (0, 7):
        batches = [random_batch(model, seed=seed, padding=padding) for seed in range(2)]
        found[padding] = collect(decoder, batches, tmp_path / str(padding), key="k", settings=settings)
    bare, padded = found[0], found[7]
    assert torch.equal(bare.tokens.drawn, padded.tokens.drawn)
    torch.testing.assert_close(bare.gradients, padded.gradients, rtol=1e-3, atol=1e-8)
    for index in range(decoder.depth):
        left, right = bare.layer(index).groups, padded.layer(index).groups
        for name, group in left.items():
            for attribute in ("magnitude", "sample", "gram"):
                one, other = getattr(group, attribute), getattr(right[name], attribute)
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    planned = schemes_of(decoder.depth, method="rtn", bits=3)
    losses = [
        [scale.loss_before for scale in search_decoder(decoder, planned, statistics=s, settings=ScalingConfig())]
        for s in (bare, padded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_statistics_are_means_over_the_tokens_of_each_modality(reference_model, tmp_path):
    model = reference_model("idefics3")
    batches = [random_batch(model, seed=seed, padding=3) for seed in range(2)]
    decoder = ResidentDecoder(model, LAYERS["idefics3"])
    settings = CalibrationConfig(tokens=10, contexts=3, gram=True)
    statistics = collect(decoder, batches, tmp_path / "s", key="k", settings=settings)
    seen = []
    hook = decoder.layers[1].mlp.down_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        for batch in batches:
            model(**batch.inputs, use_cache=False)
    hook.remove()
    group = statistics.layer(1).groups["down"]
    every = torch.cat([inputs[batch.attended] for inputs, batch in zip(seen, batches, strict=True)])
    torch.testing.assert_close(group.sample, every[statistics.tokens.drawn])
    for kind, mask in ((ANSWER, "answer"), (VISION, "vision")):
        values = torch.cat([inputs[getattr(b, mask)] for inputs, b in zip(seen, batches, strict=True)])
        torch.testing.assert_close(group.magnitude[kind], values.abs().mean(0))
        torch.testing.assert_close(group.gram[kind], values.T @ values / len(values), rtol=1e-4, atol=1e-5)
        drawn = statistics.tokens.kinds[statistics.tokens.drawn]
        assert int((drawn == kind).sum()) == min(10, len(values))


@pytest.mark.parametrize("sequences", [40, 640])
def test_intervals_are_those_of_a_bootstrap_over_sequences(sequences):
    rng = np.random.default_rng(0)
    means = rng.lognormal(sigma=0.5, size=(2, sequences)) * np.array([[1.0], [0.1]])
    tokens = Tokens(
        kinds=torch.tensor([0, 1] * sequences, dtype=torch.uint8),
        sequences=torch.arange(sequences).repeat_interleave(2),
        drawn=torch.empty(0, dtype=torch.int64),
        contexts=(),
        starts=(0, 2 * sequences),
    )
    gradients = torch.tensor(means.T.reshape(1, 1, -1)).float().expand(1, 2, -1)
    found = ratio_intervals(gradients, tokens, resamples=4000)[0][1]
    draws = rng.integers(sequences, size=(4000, sequences))
    expected = np.quantile(means[1][draws].mean(1) / means[0][draws].mean(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=0.03)
    assert found.estimate == pytest.approx(means[1].mean() / means[0].mean(), rel=1e-5)
    assert (found.high - found.low) / found.estimate == pytest.approx(4 * 0.75 / sequences**0.5, rel=0.25)


def changed(batch, **fields):
    return dataclasses.replace(batch, **fields)


def test_a_calibration_set_must_have_images_and_answers(reference_model, tmp_path):
    model = reference_model("idefics3")
    decoder, batch = ResidentDecoder(model, LAYERS["idefics3"]), random_batch(model, seed=0)
    silent = batch.targets.clone()
    silent[1] = -100
    for batches, message in [
        ([], "the calibration set is empty"),
        ([changed(batch, vision=torch.zeros_like(batch.vision))], "has no image tokens"),
        ([batch, changed(batch, targets=silent)], "sequence 1 of calibration batch 1 has no answer tokens"),
    ]:
        with pytest.raises(ReliabitError, match=message):
            collect(decoder, batches, tmp_path / "s", key="k")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damaged", "named"),
    [("model.text_model.layers.0.mlp.down_proj", r"outputs of .*layers\.0"), ("lm_head", r"gradients at .*layers\.1")],
)
def test_states_and_gradients_that_are_no_numbers_are_named(damaged, named, reference_model, tmp_path):
    model = reference_model("idefics3")
    model.get_submodule(damaged).weight.data[0, 0] = float("nan")
    with pytest.raises(ReliabitError, match=rf"{named} are not finite in calibration batch 0, computed in float32"):
        collect(ResidentDecoder(model, LAYERS["idefics3"]), [random_batch(model, seed=0)], tmp_path / "s", key="k")


def test_other_architectures_are_refused():
    layers = torch.nn.ModuleList([torch.nn.ModuleDict({"input_layernorm": torch.nn.LayerNorm(4)})])
    model = torch.nn.ModuleDict({"layers": layers, "norm": torch.nn.LayerNorm(4)})
    empty = torch.nn.ModuleDict()
    with pytest.raises(ReliabitError, match="has no module self_attn"):
        ResidentDecoder(model, "layers")
    with pytest.raises(ReliabitError, match="no decoder layers at 'layers'"):
        ResidentDecoder(empty, "layers")
