"""What is loaded is one bundle, whole and verified, whatever is done to its folder meanwhile."""

import json
import os
import random
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from reliabit.errors import ReliabitError
from reliabit.quant.packed import PackedWeight
from reliabit.serving.bundle import served_model
from reliabit.serving.bundle.folder import BUNDLE, read_calibration, read_description, verified_snapshot
from reliabit.serving.bundle.manifest import MANIFEST, manifest_digest, write_manifest
from reliabit.serving.bundle.served_model import ServedModel
from reliabit.serving.hosting import FolderSource, ModelHost
from serving.bundles import bundled
from serving.test_served_model import asked


@pytest.fixture(scope="module")
def other(evaluated, tmp_path_factory):
    """A bundle of the same model with another Selector, other certificates and another sample."""
    return bundled(evaluated, tmp_path_factory.mktemp("bundles") / "other", confidence="selector", name="other", seed=1)


@pytest.fixture
def folder(offline, tmp_path):
    return shutil.copytree(offline.bundle, tmp_path / "bundle")


def swap(folder, bundle):
    """Put another bundle in the place of one."""
    aside = folder.with_name(f"aside-{random.random()}")
    fresh = shutil.copytree(bundle, folder.with_name(f"fresh-{random.random()}"))
    folder.rename(aside)
    fresh.rename(folder)


def assert_is(model, expected):
    """Description, thresholds, calibration sample, Selector and weights are those of one bundle, and so are answers."""
    assert model.description == read_description(expected.bundle)
    for found, right in zip(model.calibration, read_calibration(expected.bundle), strict=True):
        np.testing.assert_array_equal(found, right)
    answered = model.answer(asked(expected.table, range(8)))
    assert [one.answer for one in answered] == expected.answers[:8]
    np.testing.assert_allclose([one.confidence for one in answered], expected.confidence[:8], atol=1e-4)


def test_the_two_bundles_differ_in_all_that_could_mix(offline, other):
    """Or the tests here would prove nothing."""
    one, another = (read_description(found.bundle) for found in (offline, other))
    assert one.certificates != another.certificates
    assert np.abs(offline.confidence - other.confidence).max() > 1e-2
    assert not np.array_equal(read_calibration(offline.bundle)[0], read_calibration(other.bundle)[0])


def test_the_bundle_of_these_tests_is_really_quantized(served, plain):
    for model in (served, ServedModel.load(plain.bundle)):
        packed = [module for module in model.answering.modules() if isinstance(module, PackedWeight)]
        assert len(packed) >= 14
        assert {module.layout.bits for module in packed} == {4}


@pytest.mark.parametrize("step", ["read_description", "load_checkpoint", "load_estimator", "read_calibration"])
@pytest.mark.parametrize("how", ["swapped", "overwritten"])
def test_a_folder_that_changes_at_any_step_never_yields_a_mixture(folder, offline, other, monkeypatch, step, how):
    """Between verification and each of the things that are loaded; by renaming, and byte by byte in the same files."""
    original = getattr(served_model, step)

    def change(*arguments, **options):
        if how == "swapped":
            swap(folder, other.bundle)
        else:
            for path in (path for path in folder.rglob("*") if path.is_file()):
                path.write_bytes((other.bundle / path.relative_to(folder)).read_bytes())
        return original(*arguments, **options)

    monkeypatch.setattr(served_model, step, change)
    model = ServedModel.load(folder)
    monkeypatch.undo()
    assert_is(model, offline)
    assert_is(ServedModel.load(folder), other)


def test_a_folder_that_is_overwritten_after_loading_changes_no_answer(folder, offline):
    """Weights may be mapped into memory, and read from the disk when they are first needed."""
    model = ServedModel.load(folder)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
    assert_is(model, offline)


def test_a_folder_that_is_swapped_all_the_time_gives_one_bundle_or_none(folder, offline, other):
    right = {name: contents(bundle) for name, bundle in (("one", offline.bundle), ("other", other.bundle))}
    done, seen = threading.Event(), []
    turns = [shutil.copytree(other.bundle, folder.with_name("turn"))]

    def turn():
        while not done.is_set():
            aside = folder.with_name("aside")
            folder.rename(aside)
            turns[0].rename(folder)
            aside.rename(turns[0])

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        for _ in range(40):
            try:
                with verified_snapshot(folder) as snapshot:
                    found = contents(snapshot)
                seen.append(next(name for name, files in right.items() if files == found))
            except ReliabitError as error:
                seen.append(str(error))
    finally:
        done.set()
        turning.join()
    # Mostly refusals: each of these would have been a mixture.
    assert len(seen) == 40
    assert not any("\n" in one for one in seen)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_put_in_the_place_of_a_version_is_not_served_under_its_name(folder, offline, other):
    offer = FolderSource(folder).current()
    swap(folder, other.bundle)
    with pytest.raises(ReliabitError, match="is not the one that is expected"), offer.snapshot():
        pytest.fail("it was given out all the same")
    host = ModelHost(FolderSource(folder))
    host.refresh()
    assert (host.loaded.version, host.loaded.model.description.name) == (manifest_digest(other.bundle)[:12], "other")


def test_a_digest_that_is_kept_elsewhere_says_what_may_be_served(folder, offline):
    digest = manifest_digest(offline.bundle)
    with FolderSource(folder, digest=digest).current().snapshot() as snapshot:
        assert read_description(snapshot).name == read_description(offline.bundle).name
    edit(folder, random.Random(0))
    write_manifest(folder)
    with FolderSource(folder).current().snapshot():
        pass
    with pytest.raises(ReliabitError, match=f"its SHA-256 is not {digest}") as caught:
        ModelHost(FolderSource(folder, digest=digest)).refresh()
    assert "\n" not in str(caught.value)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def edit(folder, seed):
    """Lower every threshold, so that all is answered: what an attacker would like best."""
    values = json.loads((folder / BUNDLE).read_text())
    values["run_id"] = f"of somebody else {seed.random()}"
    (folder / BUNDLE).write_text(json.dumps(values))


def truncate(path, seed):
    os.truncate(path, seed.randrange(path.stat().st_size))


def flip(path, seed):
    content = bytearray(path.read_bytes())
    content[seed.randrange(len(content))] ^= 1 << seed.randrange(8)
    path.write_bytes(content)


def replace_with_manifest(path, seed):
    path.write_bytes(seed.randbytes(path.stat().st_size))
    root = next(parent for parent in path.parents if (parent / MANIFEST).exists())
    write_manifest(root)


def rename(path, seed):
    path.rename(path.with_name(f"{path.name}.{seed.randrange(1000)}"))


def link(path, seed):
    outside = path.with_name(f"{path.name}.outside")
    path.rename(outside)
    root = next(parent for parent in path.parents if (parent / MANIFEST).exists())
    outside = outside.rename(root.parent / f"outside-{seed.randrange(10**9)}")
    path.symlink_to(outside)


def add(path, seed):
    path.with_name(f"extra-{seed.randrange(1000)}").write_bytes(seed.randbytes(10))


def lose(path, seed):
    path.unlink()


def pipe(path, seed):
    path.unlink()
    os.mkfifo(path)


TAMPERINGS = (truncate, flip, replace_with_manifest, rename, link, add, lose, pipe)


def test_every_tampering_is_refused_in_one_sentence(offline, tmp_path, monkeypatch):
    """Each kind of it on fifteen files of the bundle, drawn with a seed; and nothing of it is loaded before."""
    monkeypatch.setattr(served_model, "load_checkpoint", lambda *_, **__: pytest.fail("it was loaded all the same"))
    digest, seed = manifest_digest(offline.bundle), random.Random(20)
    for tamper in TAMPERINGS:
        for number in range(15):
            folder = shutil.copytree(offline.bundle, tmp_path / f"{tamper.__name__}-{number}")
            tamper(seed.choice(files_of(folder)), seed)
            with pytest.raises(ReliabitError) as caught:
                ServedModel.load(folder, digest=digest)
            assert "\n" not in str(caught.value)
            assert "reliabit-bundle-" not in str(caught.value), "it names a folder that is gone"
            assert str(folder) in str(caught.value)
            shutil.rmtree(folder)


@contextmanager
def temporary_folder_at(place, monkeypatch):
    import tempfile

    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place


def test_nothing_of_a_snapshot_is_left_behind(offline, folder, tmp_path, monkeypatch):
    with temporary_folder_at(tmp_path / "temporary", monkeypatch) as place:
        model = ServedModel.load(folder)
        flip(folder / "checkpoint" / "model.safetensors", random.Random(0))
        with pytest.raises(ReliabitError, match="differs"):
            ServedModel.load(folder)
        assert list(place.iterdir()) == []
    with torch.inference_mode():
        assert_is(model, offline)
