import pytest

from reliabit.errors import ReliabitError
from reliabit.quant import Plan, Rule, Scheme, component_of, default_plan, plan_from_config, resolve

QWEN = [
    *(f"model.visual.blocks.{layer}.{tail}" for layer in range(2) for tail in ("attn.qkv", "attn.proj", "mlp.fc1")),
    "model.visual.merger.mlp.0",
    "model.visual.merger.mlp.2",
    "model.language_model.embed_tokens",
    *(
        f"model.language_model.layers.{layer}.{tail}"
        for layer in range(3)
        for tail in ("self_attn.q_proj", "mlp.up_proj")
    ),
    "lm_head",
]
IDEFICS = [
    "model.vision_model.encoder.layers.0.self_attn.q_proj",
    "model.vision_model.encoder.layers.0.mlp.fc1",
    "model.connector.modality_projection.proj",
    "model.text_model.embed_tokens",
    "model.text_model.layers.0.self_attn.q_proj",
    "model.text_model.layers.0.mlp.up_proj",
    "lm_head",
]


def names_of(rules, modules, **defaults):
    return list(resolve(plan_from_config(rules, defaults=defaults), modules))


def test_components_of_both_families():
    vision, attention, mlp = "vision", "language_attention", "language_mlp"
    assert [component_of(name) for name in QWEN] == (
        [vision] * 6 + ["connector"] * 2 + ["embeddings"] + [attention, mlp] * 3 + ["lm_head"]
    )
    assert [component_of(name) for name in IDEFICS] == (
        [vision] * 2 + ["connector", "embeddings", attention, mlp, "lm_head"]
    )
    assert component_of("model.language_model.layers.0.input_layernorm") is None


@pytest.mark.parametrize("modules", [QWEN, IDEFICS])
def test_the_default_plan_means_the_decoder_only(modules):
    meant = resolve(default_plan(Scheme(bits=3)), modules)
    assert list(meant) == [
        name for name in modules if ".language_model.layers." in name or ".text_model.layers." in name
    ]
    assert set(meant.values()) == {Scheme(bits=3)}


def test_a_hybrid_is_a_list_of_rules():
    plan = plan_from_config(
        [
            {"components": ["vision"], "bits": 8, "zero": "symmetric"},
            {"components": ["language_attention"], "bits": 4},
            {"components": ["language_mlp"], "layers": [0, -1], "bits": 4},
            {"components": ["language_mlp"], "layers": [1], "group_size": 32},
            {"pattern": "^lm_head$", "bits": 8, "group_size": None},
        ],
        defaults={"method": "hqq_plus", "bits": 3},
    )
    meant = resolve(plan, QWEN)
    assert meant["model.visual.blocks.1.mlp.fc1"] == Scheme("hqq_plus", 8, 64, "symmetric")
    assert meant["model.language_model.layers.1.self_attn.q_proj"].bits == 4
    assert [meant[f"model.language_model.layers.{layer}.mlp.up_proj"].bits for layer in range(3)] == [4, 3, 4]
    assert meant["model.language_model.layers.1.mlp.up_proj"].group_size == 32
    assert meant["lm_head"] == Scheme("hqq_plus", 8, None)
    assert "model.visual.merger.mlp.0" not in meant
    assert list(meant) == [name for name in QWEN if name in meant]


def test_exclude_takes_modules_out():
    rules = [{"components": ["language_mlp", "language_attention"], "exclude": r"layers\.0\."}]
    assert len(names_of(rules, QWEN)) == 4


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"pattern": "no_such"}], "rule 1 of the quantization plan matches no module: pattern 'no_such'"),
        ([{"components": ["vision"], "layers": [9]}], "rule 1 .* matches no module: components .* layers"),
        ([{"components": ["vision"]}, {"pattern": r"blocks\.1"}], "rules 1 and 2 .* both name model.visual.blocks.1"),
        ([{"components": ["audio"]}], "unknown component 'audio'; choose from language_attention"),
        ([{"bits": 4}], "rule 1 of the quantization plan names neither components nor a pattern"),
        ([{"pattern": "("}], "has a bad pattern"),
        ([{"components": ["vision"], "bit": 4}], r"unknown keys \['bit'\]; choose from"),
    ],
)
def test_bad_plans_are_refused(rules, message):
    with pytest.raises(ReliabitError, match=message):
        names_of(rules, QWEN)


def test_rules_built_by_hand_are_checked_too():
    with pytest.raises(ReliabitError, match="names neither"):
        resolve(Plan((Rule(Scheme()),)), QWEN)
