"""What a configuration with a method that learns from its inputs composes to, is given, and writes."""

import re

import pytest
import torch
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.quant import packed_modules
from reliabit.quant.checkpoint_io import load_checkpoint
from reliabit.tasks._model import check_fits, load_calibration, load_quantized
from reliabit.tasks.calibrate import calibrate
from reliabit.tasks.quantize import stream_quantized

SMALL = ("data.splits={dev: 4}", "data.ask={}", "quant.calibration.images=4", "quant.calibration.batch_size=2")


def config_of(folder, *overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={folder}/data", f"paths.cache={folder}/cache", "trainer.progress_bar=false"]
        return to_config(compose("config", overrides=[*places, *SMALL, *overrides]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("learned")


@pytest.mark.parametrize("quantizer", ["hqq", "awq", "gptq", "gptaq", "gptq_modality", "gptq_token"])
def test_what_is_learned_is_known_from_the_configuration(quantizer, folder):
    config = config_of(folder, f"quant={quantizer}", "quant.bits=2")
    check_fits(config)
    assert config.quant.learns_inputs == quantizer.startswith("gpt")
    assert config.quant.is_calibrated == (quantizer != "hqq")


def test_each_is_given_what_it_needs(folder):
    assert load_calibration(config_of(folder, "quant=hqq")) == (None, None)
    scaled, inputs = load_calibration(config_of(folder, "quant=gptq"))
    assert (scaled, inputs.statistics, len(inputs.batches)) == (None, None, 2)
    scaled, inputs = load_calibration(config_of(folder, "quant=mbq", "quant.method=gptq"))
    assert scaled.statistics is inputs.statistics
    assert load_calibration(config_of(folder, "quant=gptq_token"))[1].statistics.key == scaled.statistics.key


def test_a_written_checkpoint_holds_what_was_measured(folder, tmp_path):
    """Although it is written in bfloat16, and the measured model computes in float32."""
    config = config_of(folder, "quant=gptaq", "quant.rules=[{components: [language_mlp], layers: [0]}]")
    measured = packed_modules(load_quantized(config).checkpoint.model)
    stream_quantized(config, tmp_path / "checkpoint")
    written = packed_modules(load_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16))
    assert written.keys() == measured.keys()
    for name, module in measured.items():
        for own, tensor in module.state_dict().items():
            if own.startswith("weight_"):
                assert torch.equal(written[name].state_dict()[own], tensor), f"{name}.{own}"


def test_it_is_calibrated_while_it_is_quantized(folder):
    """The note depends on the questions, so that a stage that reads it does too."""
    said = []
    for seed in (0, 0, 1):
        calibrate(config_of(folder, "task=calibrate", "quant=gptq", f"quant.calibration.seed={seed}"))
        said.append((folder / "cache" / "calibration" / "gptq.md").read_text())
    assert re.search("quant=gptq learns from [0-9a-f]{64} while it quantizes: there is nothing to calibrate", said[0])
    assert said[0] == said[1] != said[2]


def test_other_modules_are_refused_before_any_image_is_read(folder):
    config = config_of(folder, "quant=component/vision", "quant.method=gptq")
    with pytest.raises(ReliabitError, match=r"visual.* method gptq learns .* in the decoder layers"):
        check_fits(config)
