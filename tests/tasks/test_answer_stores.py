"""What encoded questions depend on: what sees, and not what answers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reliabit.config import Config
from reliabit.inference.settings import TrainerConfig
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.paths import PathsConfig
from reliabit.quant import plan_from_config, quantize_model
from reliabit.quant.settings import QuantConfig, ScalingConfig
from reliabit.tasks import _answer_stores as answer_identity
from reliabit.tasks import _calibration_rows as calibration
from reliabit.tasks._answer_stores import answering_identity, encoding_identity

REFERENCE = Path(__file__).parents[2] / "models"


@pytest.fixture(params=["qwen2_vl", "idefics3"])
def config(request, tmp_path):
    folder = REFERENCE / f"{request.param}_tiny"
    model = ModelConfig("tiny", request.param, str(folder), dtype="float32", template="{question}", max_new_tokens=8)
    trainer = TrainerConfig(accelerator="cpu", batch_size=64, threads=1, progress_bar=False)
    return Config(model=model, trainer=trainer, paths=PathsConfig(cache=str(tmp_path)))


def model_of(config, *rules):
    model = load_checkpoint(config.model).model
    if rules:
        defaults = {"method": "rtn", "bits": 4, "group_size": 16}
        quantize_model(model, plan_from_config(list(rules), defaults=defaults))
    return model


def test_models_that_see_alike_share(config):
    plain = encoding_identity(config, model_of(config))
    decoder = {"components": ["language_attention", "language_mlp"]}
    assert encoding_identity(config, model_of(config, decoder)) == plain
    assert encoding_identity(config, model_of(config, {**decoder, "bits": 2})) == plain


@pytest.mark.parametrize("component", ["vision", "connector"])
def test_a_model_that_sees_otherwise_does_not_share(config, component):
    quantized = encoding_identity(config, model_of(config, {"components": [component]}))
    assert quantized != encoding_identity(config, model_of(config))


def test_one_changed_weight_that_sees_is_enough(config):
    model = model_of(config)
    before = encoding_identity(config, model)
    name = next(name for name, _ in model.named_parameters() if "vis" in name)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] += 1
    assert encoding_identity(config, model) != before


@pytest.mark.parametrize(
    "quant",
    [
        QuantConfig("mbq", "rtn", bits=4, scaling=ScalingConfig(search="fast")),
        QuantConfig("gptq", "gptq", bits=4, rules=[{"components": ["language_mlp"]}]),
        QuantConfig("some", "hqq", bits=4, rules=[{"components": ["language_mlp"], "method": "gptq"}]),
    ],
)
def test_the_questions_of_a_calibration_are_part_of_what_answers_are_known_by(quant, config, monkeypatch):
    """Which is why the code that draws them is not."""
    config.quant = quant
    row = {"question_id": "1", "question": "what?", "answers": ["a"], "image": b"image"}
    found = set()
    for changed in ({}, {"question": "who?"}, {"answers": ["b"]}, {"image": b"imagf"}):
        monkeypatch.setattr(calibration, "calibration_rows", lambda _, changed=changed: [{**row, **changed}])
        found.add(answer_identity.answering_identity(config, features=None))
    assert len(found) == 4


def test_how_questions_are_put_counts(config):
    model = model_of(config)
    found = {
        encoding_identity(changed, model)
        for changed in (
            config,
            replace(config, trainer=replace(config.trainer, batch_size=32)),
            replace(config, model=replace(config.model, template="Well, {question}")),
        )
    }
    assert len(found) == 3


@pytest.mark.parametrize(("dtype", "counts"), [("float32", False), ("bfloat16", True), ("float16", True)])
def test_which_kernels_there_are_counts_in_half_types(config, dtype, counts, monkeypatch):
    config = replace(config, model=replace(config.model, dtype=dtype))
    here = answering_identity(config, features=None)
    assert answering_identity(config, features=None) == here
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert (answering_identity(config, features=None) != here) is counts
