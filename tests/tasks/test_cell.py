"""What a cell is recorded to run is what it runs, and a bundle is promoted only if it runs the same."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.inference.features import FEATURES
from reliabit.paths import conf_folder
from reliabit.quant import model_size
from reliabit.tasks._asked_questions import load_questions
from reliabit.tasks._cell import efficiency, layers_by_kernel
from reliabit.tasks._model import load_quantized
from reliabit.tasks.answer import answer_questions
from reliabit.tasks.bundling import check_kernels

KERNELS = {"up_proj": "int4pack", "down_proj": "int4pack", "lm_head": "eager"}


def test_a_bundle_with_the_kernels_of_its_run_passes():
    check_kernels(KERNELS, {"efficiency/stored_bytes": 1.0, **layers_by_kernel(KERNELS)}, run_id="abc")
    check_kernels({}, {"efficiency/stored_bytes": 1.0}, run_id="an unquantized one")


def test_a_bundle_with_other_kernels_is_refused():
    eager = layers_by_kernel(dict.fromkeys(KERNELS, "eager"))
    message = "abc multiplied by eager in 3 layers, and the bundle by eager in 1 layers, int4pack in 2 layers on this"
    with pytest.raises(ReliabitError, match=message):
        check_kernels(KERNELS, eager, run_id="abc")


def test_a_cell_records_the_kernels_and_the_memory_it_answers_with(tmp_path):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={tmp_path}/data", f"paths.cache={tmp_path}/cache", "trainer.progress_bar=false"]
        asked = ["data.ask={dev: 0, val: 0, cal: 0, test: 4}", "confidence=maxprob"]
        quant = ["quant=hqq", "quant.bits=4", "model.dtype=bfloat16"]
        config = to_config(compose("config", overrides=[*places, *asked, *quant]))
    model = load_quantized(config)
    answered = answer_questions(config, model, load_questions(config, training=False), features=tmp_path / FEATURES)
    recorded = efficiency(config, model, answered)
    assert recorded["efficiency/resident_bytes"] == model_size(model.checkpoint.model).resident_bytes
    packed = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    layers = {name: value for name, value in recorded.items() if name.startswith("efficiency/layers_")}
    assert layers == {f"efficiency/layers_{'int4pack' if packed else 'eager'}": 14}
    assert set(model.kernels) == set(model.report.names)
