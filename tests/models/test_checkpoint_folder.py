import json
import shutil

import pytest
from omegaconf import OmegaConf

from reliabit.errors import ReliabitError
from reliabit.models.checkpoint_folder import check_checkpoint, find_checkpoint
from reliabit.models.families import FAMILIES
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.paths import conf_folder

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A local cache of the hub with one revision of one checkpoint."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--model" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_cached_revision_is_found(cache):
    assert find_checkpoint("hub:someone/model", revision=REVISION, download=False) == cache
    assert find_checkpoint(str(cache), revision=REVISION, download=False) == cache


def test_a_revision_that_is_not_cached_is_named_with_what_to_do(cache):
    with pytest.raises(ReliabitError, match=rf"someone/model at the revision {OTHER} is not in .*model.download=true"):
        find_checkpoint("hub:someone/model", revision=OTHER, download=False)


@pytest.mark.parametrize("revision", [None, "main", REVISION[:8]])
def test_only_whole_commits_pin(cache, revision):
    with pytest.raises(ReliabitError, match="needs model.revision, a whole commit of the hub"):
        find_checkpoint("hub:someone/model", revision=revision, download=False)


def test_a_name_that_is_none_is_refused(cache):
    with pytest.raises(ReliabitError, match="cannot be fetched"):
        find_checkpoint("hub:no/such/name", revision=REVISION, download=False)


def test_another_revision_than_pinned_is_refused(cache):
    with pytest.raises(ReliabitError, match=f"is the revision {REVISION}, and model.revision={OTHER}"):
        find_checkpoint(str(cache), revision=OTHER, download=False)


def test_a_folder_downloaded_to_says_its_revision(tmp_path):
    notes = tmp_path / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    # As the hub's client writes it: commit, etag, time.
    (notes / "config.json.metadata").write_text(f"{REVISION}\nabc\n1700000000.0\n")
    assert find_checkpoint(str(tmp_path), revision=REVISION, download=False) == tmp_path
    with pytest.raises(ReliabitError, match=f"is the revision {REVISION}"):
        find_checkpoint(str(tmp_path), revision=OTHER, download=False)


def test_a_folder_that_does_not_say_its_revision_is_taken_only_unpinned(tmp_path):
    assert find_checkpoint(str(tmp_path), revision=None, download=False) == tmp_path
    with pytest.raises(ReliabitError, match=r"does not say which revision it is, .* set model.revision=null"):
        find_checkpoint(str(tmp_path), revision=REVISION, download=False)


def sharded(untrained, family, folder):
    model = load_checkpoint(
        ModelConfig(path=str(untrained), family=family, dtype="float32", template="{question}")
    ).model
    shutil.copytree(untrained, folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="2MB")
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def test_shards_that_the_index_lists_and_the_folder_lacks_are_named(untrained, family, tmp_path):
    folder = tmp_path / "sharded"
    shards = sharded(untrained, family, folder)
    assert len(shards) > 2
    check_checkpoint(folder, family=family)
    for name in shards[:2]:
        (folder / name).unlink()
    with pytest.raises(ReliabitError, match=rf"lacks 2 of the {len(shards)} shards .*{shards[0]}, {shards[1]}"):
        load_checkpoint(ModelConfig(path=str(folder), family=family, dtype="float32", template="{question}"))


def test_an_index_that_is_none_is_refused(untrained, family, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(untrained, folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ReliabitError, match="is no index of shards"):
        check_checkpoint(folder, family=family)


FULL_SIZE = ("qwen2_vl_2b", "qwen2_vl_7b", "qwen2_5_vl_3b", "qwen2_5_vl_7b", "idefics3_8b", "smolvlm")


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_models_are_pinned_and_never_fetched_unasked(name):
    config = OmegaConf.to_container(OmegaConf.load(conf_folder() / "model" / f"{name}.yaml"))
    assert config["name"] == name
    assert config["path"].startswith("hub:")
    assert len(config["revision"]) == 40
    assert config["download"] is False
    assert config["family"] in FAMILIES
    assert "trust_remote_code" not in json.dumps(config)
    assert config["template"] == "{question}\nAnswer the question using a single word or phrase."
