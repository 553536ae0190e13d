"""The model that a configuration names: spread over devices where it says so, quantized only where it all is."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.models.spread import offloaded
from reliabit.paths import conf_folder
from reliabit.tasks._answer_stores import encoding_identity
from reliabit.tasks._asked_questions import load_questions
from reliabit.tasks._model import load_quantized
from reliabit.tasks.answer import answer, answer_questions
from reliabit.tasks.pipeline import _get_ready as pipeline_ready
from reliabit.tasks.quantize import quantize

SPREAD = ("trainer.device_map=auto", "trainer.host_memory=1500KB")


def config_of(folder, *overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={folder}/data", f"paths.cache={folder}/cache", "trainer.progress_bar=false"]
        asked = ["data.ask={dev: 0, val: 0, cal: 0, test: 4}", "confidence=selector", "confidence.estimators=[maxprob]"]
        return to_config(compose("config", overrides=[*places, *asked, *overrides]))


def test_a_spread_model_is_asked_as_a_whole_one(tmp_path):
    whole, spread = config_of(tmp_path / "one", "quant=none"), config_of(tmp_path / "two", "quant=none", *SPREAD)
    model = load_quantized(spread)
    assert offloaded(model.checkpoint.model)
    assert model.size.stored_bytes == load_quantized(whole).size.stored_bytes

    def answered(config: object, model: object, folder: Path) -> pa.Table:
        return answer_questions(config, model, load_questions(config, training=False), features=folder).predictions

    expected = answered(whole, load_quantized(whole), tmp_path / "features")
    assert answered(spread, model, tmp_path / "more_features").equals(expected)
    here = replace(spread, paths=whole.paths)
    assert encoding_identity(here, model.checkpoint.model) == encoding_identity(
        whole, load_quantized(whole).checkpoint.model
    )


def test_what_lies_on_disk_is_not_quantized(tmp_path):
    with pytest.raises(
        ReliabitError, match=r"trainer\.device_map=auto leaves \d+ tensors .* off the devices, .* task=quantize"
    ):
        load_quantized(config_of(tmp_path, "quant=hqq", "quant.bits=4", *SPREAD))


def test_what_fits_is_quantized_as_ever(tmp_path):
    config = config_of(tmp_path, "quant=hqq", "quant.bits=4", "trainer.device_map=auto")
    assert load_quantized(config).size == load_quantized(config_of(tmp_path, "quant=hqq", "quant.bits=4")).size


@pytest.mark.parametrize("quantizer", ["hqq", "mbq", "gptq"])
@pytest.mark.parametrize("task", [answer, quantize, pipeline_ready])
def test_groups_that_do_not_fit_are_refused_before_anything_is_measured(tmp_path, monkeypatch, quantizer, task):
    """The smaller of the widths, 128, takes no group of 256; the larger, 384, does not either."""
    monkeypatch.setattr("reliabit.tasks._model.load_statistics", lambda _: pytest.fail("calibrated in vain"))
    monkeypatch.setattr("reliabit.tasks._model.calibration_rows", lambda _: pytest.fail("calibrated in vain"))
    monkeypatch.setattr("reliabit.models.loading.load_checkpoint", lambda *_: pytest.fail("loaded in vain"))
    overrides = (f"quant={quantizer}", "quant.group_size=256", f"task.checkpoint={tmp_path}/checkpoint")
    config = config_of(tmp_path, "task=quantize", *overrides)
    with pytest.raises(ReliabitError) as caught:
        task(config)
    assert str(caught.value) == (
        "model.language_model.layers.0.self_attn.q_proj: group size 256 does not divide its 128 inputs; choose one of "
        "16, 32, 64, 128, or null for whole rows"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.device_map=auto", "trainer.devices=2"], "spreads one model over all devices, and trainer.devices=2"),
        (["trainer.host_memory=4GiB"], "trainer.host_memory=4GiB and trainer.device_map is null"),
        (["trainer.device_map=auto", "trainer.device_memory=4"], "trainer.device_memory=4 is no size"),
        (["trainer.device_map=tensor_parallel"], "choose one of: null, auto, balanced"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, overrides, message):
    with pytest.raises(ReliabitError, match=message):
        config_of(tmp_path, *overrides)
