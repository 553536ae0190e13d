"""`task=quantize`: what is exported, what is said of where it loads, what is refused before."""

import pytest
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.tasks.quantize import quantize


@pytest.fixture
def exporting(tmp_path):
    """A configuration that exports the tiny model."""

    def configured(*overrides):
        register()
        places = [f"paths.output={tmp_path}/output", f"task.checkpoint={tmp_path}/made"]
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return to_config(compose("config", overrides=["task=quantize", *places, "quant=rtn", *overrides]))

    return configured


@pytest.mark.medium
def test_gguf_files_are_written_with_the_line_that_serves_them(exporting, tmp_path, capsys):
    pytest.importorskip("gguf")
    quantize(exporting("task.format=gguf", "quant.bits=4"))
    assert {file.name for file in (tmp_path / "made").iterdir()} == {"model.gguf", "mmproj.gguf"}
    said = capsys.readouterr().out
    assert "14 Q4_0" in said
    assert (
        f"llama-server -m {tmp_path}/made/model.gguf --mmproj {tmp_path}/made/mmproj.gguf --image-min-tokens 1" in said
    )


def test_what_only_some_devices_load_is_said(exporting, tmp_path, capsys):
    pytest.importorskip("compressed_tensors")
    quantize(exporting("task.format=compressed_tensors", "quant.bits=8"))
    assert (tmp_path / "made" / "config.json").is_file()
    assert "and not on Intel GPUs or CPUs; for all of them choose quant.bits=4" in capsys.readouterr().out


def test_what_no_engine_loads_is_refused_before_weights_are_read(exporting, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setattr("reliabit.tasks.quantize.stream_quantized", lambda *_: pytest.fail("quantized in vain"))
    with pytest.raises(
        ReliabitError, match="no engine loads symmetric grids of 3 bits in groups of 32 as gguf; choose"
    ):
        quantize(exporting("task.format=gguf", "quant.bits=3"))
    assert not (tmp_path / "made").exists()
