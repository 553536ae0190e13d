"""`task=pretrain` where pretrained parts are joined: what it learned is what is assembled."""

import json
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir

import pretrained_parts
from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.models import join_training
from reliabit.models.loading import load_checkpoint
from reliabit.models.pretrained import assembling, joining, packages
from reliabit.models.settings import ModelConfig
from reliabit.paths import conf_folder
from reliabit.tasks.pretrain import pretrain

SMALL = {
    "task.joining.steps": 4,
    "task.joining.epoch_steps": 2,
    "task.joining.images.easy_vqa": 2,
    "task.joining.poses.easy_vqa": 2,
    "task.joining.validation_images": 2,
    "task.joining.data.easy_vqa.splits": "{train: 4, val: 2, dev: 1, cal: 1, test: 1}",
}
WITHOUT_PICTURES = [f"~task.joining.{key}.pictures" for key in ("data", "images", "poses")]
"""Preparing them takes longer than the training."""


@pytest.fixture
def design(tmp_path, monkeypatch):
    """How two small packages are joined that are installed for the test."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    design = pretrained_parts.install(site)
    for module, name in ((packages, "read_parts"), (joining, "build"), (assembling, "publish")):
        call = getattr(module, name)
        monkeypatch.setattr(module, name, partial(call, design=design))
    return design


def config(root, **changes):
    register()
    places = {"model.path": root / "model", "model.parts": root / "parts", "paths.root": root, "trainer.threads": 1}
    overrides = [f"{key}={value}" for key, value in {**places, **SMALL, **changes}.items()]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return to_config(
            compose("config", overrides=["task=pretrain", "model=idefics3_smollm2", *WITHOUT_PICTURES, *overrides])
        )


@pytest.mark.medium
def test_what_was_trained_is_what_is_assembled(design, tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(join_training, "join", lambda model, **rest: trained.append(model) or join(model, **rest))
    pretrain(config(tmp_path))
    record = json.loads((tmp_path / "parts" / assembling.TRAINING).read_text())
    assert [row["step"] for row in record["curve"]] == [2, 4]
    assert set(record["trained_on"]) == {"easy_vqa"}
    assert f"{tmp_path / 'parts'}: trained for 4 steps" in capsys.readouterr().out

    assembling.assemble(tmp_path / "model", parts=tmp_path / "parts", design=design)
    checkpoint = load_checkpoint(
        ModelConfig(path=str(tmp_path / "model"), family="idefics3", dtype="float32", template="{question}")
    )
    from reliabit.data.prepared_table import load_split, prepare

    row = load_split(prepare(config(tmp_path).task.join().data["easy_vqa"], root=tmp_path / "data"), "val")[0]
    batch = checkpoint.encoder([row])
    (model,) = trained
    with torch.no_grad():
        expected = model.eval()(**batch.text, **batch.images, use_cache=False).logits
        found = checkpoint.model(**batch.text, **batch.images, use_cache=False).logits
    # What is learned is stored in float16, and so is what is assembled.
    assert (found - expected).abs().max() < 0.01 * expected.std()


join = join_training.join


def test_a_learned_part_is_not_written_over(design, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "learned.safetensors").write_bytes(b"")
    with pytest.raises(ReliabitError, match=r"learned\.safetensors exists already; move it away to train the model"):
        pretrain(config(tmp_path))
