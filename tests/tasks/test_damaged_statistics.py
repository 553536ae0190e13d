"""Statistics that are kept and damaged are measured again, before anything is quantized by them."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from damage import turn
from reliabit.composition import register, to_config
from reliabit.paths import conf_folder
from reliabit.tasks._model import load_statistics


def test_damaged_statistics_are_measured_again(tmp_path, capsys):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={tmp_path}/data", f"paths.cache={tmp_path}/cache"]
        small = ["data.splits={dev: 4}", "data.ask={}", "quant.calibration.images=4", "quant.calibration.tokens=16"]
        config = to_config(compose("config", overrides=["quant=mbq", "quant.calibration.contexts=2", *small, *places]))
    measured, _ = load_statistics(config)
    found, _ = load_statistics(config)
    assert capsys.readouterr().err.count("dropped") == 0
    layer = measured.folder / "layer-001.safetensors"
    turn(layer, 4 * layer.stat().st_size)
    again, _ = load_statistics(config)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "dropped" in line]
    assert line.startswith(str(layer))
    assert line.endswith(": it is dropped and made anew")
    assert torch.equal(again.gradients, found.gradients)
    assert {path.name for path in Path(config.paths.cache, "calibration").iterdir() if path.is_dir()} == {
        measured.folder.name
    }
