import json
import shutil

import pytest

from reliabit.errors import ReliabitError
from reliabit.models.families import find_adapter
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig


def load(folder, family):
    return load_checkpoint(ModelConfig(path=str(folder), family=family, dtype="float32", template="{question}"))


def test_loaded_models_are_frozen_and_in_evaluation_mode(checkpoint):
    assert not checkpoint.model.training
    assert not any(parameter.requires_grad for parameter in checkpoint.model.parameters())


def test_decoder_layers_are_where_the_adapter_says(checkpoint):
    layers = checkpoint.model.get_submodule(checkpoint.encoder.adapter.decoder_layers)
    assert len(layers) == 2
    assert hasattr(layers[0], "self_attn")


def test_an_unknown_folder_is_refused(tmp_path, family):
    with pytest.raises(ReliabitError, match="is not a checkpoint folder"):
        load(tmp_path / "nowhere", family)


def test_another_family_is_refused(untrained, family):
    other = {"qwen2_vl": "idefics3", "idefics3": "qwen2_vl"}[family]
    with pytest.raises(ReliabitError, match=f"is of the family '{family}'"):
        load(untrained, other)


def test_a_checkpoint_with_code_of_its_own_is_refused(untrained, family, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(untrained, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ReliabitError, match="code of its own"):
        load(folder, family)


def test_missing_weights_are_refused(untrained, family, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(untrained, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ReliabitError, match="has no model.safetensors"):
        load(folder, family)


def test_a_truncated_file_is_refused(untrained, family, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(untrained, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ReliabitError, match="is truncated or no safetensors file"):
        load(folder, family)


def test_an_unknown_family_is_refused():
    with pytest.raises(ReliabitError, match="choose one of idefics3, qwen2_5_vl, qwen2_vl"):
        find_adapter("llava")


def test_a_transformers_that_would_answer_blindly_is_refused(untrained, family, monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    with pytest.raises(ReliabitError, match=r"transformers 5\.17\.0 is installed and answering needs 5\.21 or later"):
        load(untrained, family)


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[]", "describes no model")])
def test_a_broken_config_is_refused(untrained, family, tmp_path, text, message):
    shutil.copytree(untrained, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(text)
    with pytest.raises(ReliabitError, match=message):
        load(tmp_path / "broken", family)
