import pytest
import torch

from quant.calibration_samples import LAYERS, LINEARS, random_batch
from quant.samples import FAMILIES
from reliabit.errors import ReliabitError
from reliabit.quant import GroupScale, ResidentDecoder
from reliabit.quant.mbq.groups import GROUPS, sharing_of
from reliabit.quant.mbq.scaling import fold_layer


@pytest.fixture
def shaken(reference_model):
    """A reference model whose norms and biases are not all ones and zeros, as a trained model's are not."""

    def load(family, dtype=torch.float32):
        model = reference_model(family, dtype)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "layernorm" in name or name.endswith("proj.bias"):
                    parameter.add_(torch.randn(parameter.shape, generator=generator).to(dtype) * 0.3)
        return model

    return load


def random_scales(decoder, groups=GROUPS):
    generator = torch.Generator().manual_seed(0)
    scales = []
    for index in range(decoder.depth):
        with decoder.layer(index) as layer:
            for group in groups:
                channels = len(layer.get_submodule(group.previous).weight)
                scale = torch.randn(channels, generator=generator).exp()
                scales.append(GroupScale(index, group.name, 0.5, scale, 1.0, 1.0, 0.5))
    return scales


def fold(decoder, scales, planned=LINEARS):
    for index in range(decoder.depth):
        with decoder.layer(index) as layer:
            fold_layer(layer, [found for found in scales if found.layer == index], planned=planned)


@torch.no_grad()
def logits(model, batch):
    return model(**batch.inputs, use_cache=False).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_changes_nothing_that_the_model_computes(family, shaken):
    model = shaken(family)
    batch = random_batch(model, seed=0, padding=2)
    before, weights = logits(model, batch), {name: value.clone() for name, value in model.state_dict().items()}
    decoder = ResidentDecoder(model, LAYERS[family])
    assert sharing_of(decoder.layers[0], GROUPS[1]).repeats == 2, "the reference models have grouped-query attention"
    fold(decoder, random_scales(decoder))
    difference = (logits(model, batch) - before)[batch.attended].abs().max() / before.abs().max()
    assert difference <= 1e-5
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])}
    assert {name.removeprefix(f"{LAYERS[family]}.0.") for name in changed if f"{LAYERS[family]}.0." in name} >= {
        *(f"{linear}.weight" for linear in LINEARS),
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    }
    assert all(name.startswith(LAYERS[family]) for name in changed)


@pytest.mark.parametrize("group", [group.name for group in GROUPS])
def test_each_group_can_be_folded_alone(group, shaken):
    model = shaken("qwen2_vl")
    batch = random_batch(model, seed=0)
    before = logits(model, batch)
    decoder = ResidentDecoder(model, LAYERS["qwen2_vl"])
    fold(decoder, random_scales(decoder, [found for found in GROUPS if found.name == group]))
    assert (logits(model, batch) - before).abs().max() / before.abs().max() <= 1e-5


def test_what_rounding_takes_from_a_norm_goes_into_the_linear_layers(shaken):
    model, exact = shaken("idefics3", torch.bfloat16), shaken("idefics3", torch.bfloat16).float()
    batch = random_batch(exact, seed=0)
    before = logits(exact, batch)
    decoder = ResidentDecoder(model, LAYERS["idefics3"])
    fold(decoder, random_scales(decoder))
    layer = decoder.layers[0]
    assert layer.input_layernorm.weight.dtype == torch.bfloat16
    assert layer.self_attn.q_proj.weight.dtype == torch.float32
    # Rounding the norms alone to bfloat16 would cost some 1e-3.
    assert (logits(model.float(), batch) - before).abs().max() / before.abs().max() <= 1e-5


def test_linear_layers_that_stay_keep_their_type(shaken):
    model = shaken("idefics3", torch.bfloat16)
    decoder = ResidentDecoder(model, LAYERS["idefics3"])
    fold(decoder, random_scales(decoder), planned=("mlp.up_proj",))
    types = {path: decoder.layers[0].get_submodule(path).weight.dtype for path in LINEARS}
    assert types.pop("mlp.up_proj") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.zeros(128), "qkv of decoder layer 0 is not above zero everywhere"),
        (torch.full((128,), torch.nan), "is not above zero everywhere"),
        (torch.ones(64), "has 64 channels, and input_layernorm 128"),
    ],
)
def test_impossible_scales_are_refused(scale, message, reference_model):
    decoder = ResidentDecoder(reference_model("idefics3"), LAYERS["idefics3"])
    with pytest.raises(ReliabitError, match=message):
        fold(decoder, [GroupScale(0, "qkv", 0.5, scale, 1.0, 1.0, 0.5)])
