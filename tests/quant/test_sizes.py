import pytest
import torch
from transformers import Idefics3Config, Qwen2VLConfig

from quant.samples import FAMILIES
from reliabit.errors import ReliabitError
from reliabit.quant import (
    Scheme,
    checkpoint_bytes,
    default_plan,
    footprint,
    load_checkpoint,
    model_size,
    plan_from_config,
    quantize_model,
    save_checkpoint,
)

GIB = 2**30
QWEN2_VL_7B = Qwen2VLConfig(
    text_config={
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    vision_config={"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
    tie_word_embeddings=False,
)
IDEFICS3_8B = Idefics3Config(
    text_config={
        "model_type": "llama",
        "vocab_size": 128259,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    vision_config={
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 364,
        "patch_size": 14,
    },
    scale_factor=2,
    tie_word_embeddings=False,
)
CONFIGS = {"qwen2_vl": QWEN2_VL_7B, "idefics3": IDEFICS3_8B}
SYMMETRIC = {"group_size": 128, "zero": "symmetric"}
INTEGER = {"group_size": 128, "zero": "integer"}
HQQ = {"group_size": 64}
# Whole models in GiB at 2, 3, 4 and 8 bits; spec/quantization.md, section 4.
PUBLISHED = [
    ("qwen2_vl", SYMMETRIC, (4.90, 5.66, 6.42, 9.46)),
    ("qwen2_vl", INTEGER, (4.92, 5.68, 6.45, 9.51)),
    ("qwen2_vl", HQQ, (5.19, 5.95, 6.71, 9.75)),
    ("idefics3", SYMMETRIC, (4.49, 5.30, 6.11, 9.36)),
    ("idefics3", HQQ, (4.79, 5.61, 6.42, 9.67)),
]


@pytest.mark.parametrize(
    ("family", "weights", "attention", "mlp", "gib"),
    [
        ("qwen2_vl", 8_291_375_616, 822_083_584, 5_703_204_864, 15.444),
        ("idefics3", 8_462_086_384, 1_342_177_280, 5_637_144_576, 15.762),
    ],
)
def test_unquantized_models_have_their_published_sizes(family, weights, attention, mlp, gib):
    found = footprint(CONFIGS[family])
    assert found.size.weights == weights
    assert found.components["language_attention"].weights == attention
    assert found.components["language_mlp"].weights == mlp
    assert found.size.stored_bytes / GIB == pytest.approx(gib, rel=1e-4)
    assert found.size.effective_bits == 16
    assert sum(part.weights for part in found.components.values()) == weights


@pytest.mark.medium
@pytest.mark.parametrize(("family", "scheme", "gib"), PUBLISHED)
def test_quantized_models_have_the_sizes_of_the_specification(family, scheme, gib):
    for bits, expected in zip((2, 3, 4, 8), gib, strict=True):
        found = footprint(CONFIGS[family], default_plan(Scheme(bits=bits, **scheme)))
        assert found.size.stored_bytes / GIB == pytest.approx(expected, rel=5e-3)
        overhead = {"float": 32, "integer": 16 + bits, "symmetric": 16}[scheme.get("zero", "float")]
        assert found.size.quantized_effective_bits == pytest.approx(bits + overhead / scheme["group_size"])


def test_the_other_components_can_be_planned_too():
    plan = plan_from_config(
        [
            {"components": ["language_attention", "language_mlp"], "bits": 2, **SYMMETRIC},
            {"components": ["lm_head", "embeddings"], "bits": 8, "group_size": None, "zero": "symmetric"},
        ]
    )
    # An 8-bit lm_head and embeddings save about another GiB.
    assert footprint(QWEN2_VL_7B, plan).size.stored_bytes / GIB == pytest.approx(4.90 - 1.015, rel=5e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [None, 2, 3, 4, 8])
def test_the_reference_models_files_have_the_predicted_size(family, bits, reference_folder, reference_model, tmp_path):
    plan = None if bits is None else default_plan(Scheme(bits=bits))
    predicted = footprint(reference_folder(family), plan)
    model = reference_model(family, torch.bfloat16)
    if plan is not None:
        quantize_model(model, plan)
    save_checkpoint(model, tmp_path / "checkpoint")
    assert checkpoint_bytes(tmp_path / "checkpoint") == pytest.approx(predicted.file_bytes, rel=1e-2)
    assert predicted.size.stored_bytes == model_size(model).stored_bytes
    loaded = load_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16)
    assert predicted.size.resident_bytes == pytest.approx(model_size(loaded).resident_bytes, rel=1e-2)


def test_a_plan_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="group size 240 does not divide its 3584 inputs"):
        footprint(QWEN2_VL_7B, plan_from_config([{"pattern": "up_proj", "group_size": 240}]))
    with pytest.raises(ReliabitError, match="it has no config.json"):
        footprint(tmp_path)
