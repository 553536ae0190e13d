import hashlib
import json
import os
import platform
import shutil

import pytest

from reliabit import digests
from reliabit.data.prepared_table import prepare
from reliabit.data.sources import DataConfig
from reliabit.digests import DigestCache, checkpoint_inputs, library_versions, table_inputs
from reliabit.errors import ReliabitError


@pytest.fixture
def settled(monkeypatch):
    """Takes every file for one that was written long ago."""
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read, in order."""
    read = []
    original = digests.sha256

    def counted(path):
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(digests, "sha256", counted)
    return read


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_and_hashes_as_it_should(tmp_path, hashed):
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(100_000))
    for _ in range(3):
        assert DigestCache(tmp_path / "cache").sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashed == ["weights"]


@pytest.mark.usefixtures("settled")
def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    path, cache = tmp_path / "weights", DigestCache(tmp_path / "cache")
    path.write_text("aaaa")
    before = path.stat()
    first = cache.sha256(path)
    path.write_text("bbbb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.sha256(path) == hashlib.sha256(b"bbbb").hexdigest() != first


def test_a_file_that_was_just_written_is_read_again(tmp_path, hashed):
    path, cache = tmp_path / "new", DigestCache(tmp_path / "cache")
    path.write_text("a")
    assert cache.sha256(path) == cache.sha256(path)
    assert hashed == ["new", "new"]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"state": null}'])
def test_a_damaged_record_costs_a_reading_and_no_more(tmp_path, hashed, damage):
    path, cache = tmp_path / "file", DigestCache(tmp_path / "cache")
    path.write_text("a")
    first = cache.sha256(path)
    (record,) = cache.folder.iterdir()
    record.write_text(damage)
    assert cache.sha256(path) == cache.sha256(path) == first
    assert hashed == ["file", "file"]


@pytest.mark.usefixtures("settled")
def test_a_link_is_known_by_what_it_points_to(tmp_path, hashed):
    blob, link = tmp_path / "blob", tmp_path / "model.safetensors"
    blob.write_text("a")
    link.symlink_to(blob)
    cache = DigestCache(tmp_path / "cache")
    assert cache.sha256(link) == cache.sha256(blob)
    assert len(hashed) == 1
    link.unlink()
    (tmp_path / "other").write_text("b")
    link.symlink_to(tmp_path / "other")
    assert cache.sha256(link) == hashlib.sha256(b"b").hexdigest()


def test_a_checkpoint_is_its_files_but_not_its_texts(tmp_path):
    folder, cache = tmp_path / "model", DigestCache(tmp_path / "cache")
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/tokenizer.json", "README.md", ".hidden"):
        (folder / name).write_text(name)
    found = checkpoint_inputs(folder, cache=cache)
    assert set(found) == {"model/config.json", "model/sub/tokenizer.json"}
    shutil.move(folder, tmp_path / "elsewhere")
    assert checkpoint_inputs(tmp_path / "elsewhere", cache=cache) == found


def test_what_cannot_be_identified_is_named(tmp_path):
    cache = DigestCache(tmp_path / "cache")
    with pytest.raises(ReliabitError, match="holds no files to identify"):
        checkpoint_inputs(tmp_path / "nowhere", cache=cache)
    with pytest.raises(ReliabitError, match="cannot be read .No such file"):
        cache.sha256(tmp_path / "nowhere")
    with pytest.raises(ReliabitError, match="is not a prepared table"):
        table_inputs(tmp_path, cache=cache, name="data")


def test_a_table_is_its_splits_and_one_that_was_changed_is_refused(tmp_path):
    spec = DataConfig(name="easy_vqa", splits={"train": 3, "test": 2})
    folder, cache = prepare(spec, root=tmp_path), DigestCache(tmp_path / "cache")
    found = table_inputs(folder, cache=cache, name="data")
    for split in ("train", "test"):
        content = (folder / f"{split}.parquet").read_bytes()
        assert found[f"data/{split}"] == hashlib.sha256(content).hexdigest()
    path = folder / "test.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ReliabitError, match=r"test.parquet is missing or differs from its hash"):
        table_inputs(folder, cache=cache, name="data")
    path.unlink()
    with pytest.raises(ReliabitError, match=r"test.parquet is missing or differs from its hash"):
        table_inputs(folder, cache=cache, name="data")


def test_libraries_have_the_versions_that_they_say_themselves():
    import numpy
    import torch

    found = library_versions()
    assert found["numpy"] == numpy.__version__
    assert found["torch"] == torch.__version__
    assert platform.python_version().startswith(found["python"])
    assert json.dumps(found)
