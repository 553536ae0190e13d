import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reliabit.errors import ReliabitError
from reliabit.metrics.certify import Certificate
from reliabit.serving.bundle.description import Description, certificate_id
from reliabit.serving.bundle.folder import BUNDLE, read_calibration, read_description, verified_snapshot, write_bundle
from reliabit.serving.bundle.manifest import MANIFEST, manifest_digest, verify_manifest, write_manifest


def certificate(risk=0.05, threshold=0.7):
    return Certificate(
        risk=risk,
        delta=0.1,
        threshold=threshold,
        method="binomial",
        n_cal=100,
        n_accepted=80,
        loss_sum=1.0,
        p_value=0.02,
        bound=0.04,
        seed=0,
        cal_sha256="c" * 64,
    )


DESCRIPTION = Description(
    name="tiny·hqq·4b·s0",
    family="qwen2_vl",
    dtype="float32",
    template="{question}",
    max_new_tokens=8,
    batch_size=4,
    confidence="maxprob",
    certificates=(certificate(), certificate(0.01, float("inf"))),
    default_risk=0.05,
    run_id="r",
    fingerprint="f",
    inputs={"easy_vqa": "d"},
)
SAMPLE = (np.array([0.1, 0.9, 1.0]), np.array([0.0, 0.3, 1.0]))


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "model.safetensors").chmod(0o600)
    (folder / ".gitignore").write_text("x")
    return folder


def write(folder, checkpoint, **changed):
    given = {"description": DESCRIPTION, "selector": None, "calibration": SAMPLE, "card": "# Card · ü\n"}
    write_bundle(folder, checkpoint=checkpoint, **(given | changed))
    return folder


@pytest.fixture
def bundle(tmp_path, checkpoint):
    return write(tmp_path / "bundle", checkpoint)


def test_a_bundle_says_what_was_written(bundle):
    assert read_description(bundle) == DESCRIPTION
    confidence, accuracy = read_calibration(bundle)
    assert confidence.tolist() == [0.1, 0.9, 1.0]
    assert accuracy.tolist() == [0.0, 0.3, 1.0]
    assert (bundle / "README.md").read_text(encoding="utf-8") == "# Card · ü\n"
    files = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    assert files == [
        "README.md", "bundle.json", "calibration.parquet", "checkpoint/config.json", "checkpoint/model.safetensors",
        "manifest.json",
    ]  # fmt: skip
    assert set(json.loads((bundle / MANIFEST).read_text())["files"]) == set(files) - {MANIFEST}


def test_files_are_copied_and_linked_ones_become_files(tmp_path, checkpoint):
    """DVC may have put links into its cache in place of the files."""
    weights = tmp_path / "cache" / "0a1b"
    weights.parent.mkdir()
    shutil.move(checkpoint / "model.safetensors", weights)
    (checkpoint / "model.safetensors").symlink_to(weights)
    copied = write(tmp_path / "bundle", checkpoint) / "checkpoint" / "model.safetensors"
    assert not copied.is_symlink()
    assert copied.read_bytes() == weights.read_bytes()
    assert copied.stat().st_mode & 0o444 == 0o444
    verify_manifest(tmp_path / "bundle")


def test_json_names_each_certificate_by_its_content(bundle):
    values = json.loads((bundle / BUNDLE).read_text())
    assert values["certificates"][0] == certificate().to_dict() | {"id": certificate_id(certificate())}
    assert values["certificates"][1]["threshold"] is None
    values["certificates"][0]["threshold"] = 0.1
    (bundle / BUNDLE).write_text(json.dumps(values))
    with pytest.raises(ReliabitError, match=rf"the certificate {certificate_id(certificate())} was changed"):
        read_description(bundle)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"default_risk": 0.2}, r"default risk 0.2 is not certified; choose one of 0.05, 0.01"),
        ({"certificates": (certificate(), certificate())}, r"two certificates of one risk \(0.05, 0.05\)"),
        ({"certificates": ()}, "choose one of none at all"),
        ({"confidence": "p_true"}, "only maxprob or selector can be served"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    ],
)
def test_descriptions_that_cannot_be_served_are_refused(changed, reason):
    with pytest.raises(ReliabitError, match=reason):
        replace(DESCRIPTION, **changed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "format 2, and this version of reliabit reads 1"),
        ('{"format": 1}', "cannot be read"),
        (json.dumps({**json.loads(DESCRIPTION.to_json()), "extra": 1}), "its fields are not those of format 1"),
    ],
)
def test_descriptions_that_cannot_be_read_are_refused(text, reason):
    with pytest.raises(ReliabitError, match=reason):
        Description.from_json(text)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"description": replace(DESCRIPTION, confidence="selector")}, "confidence is selector and none was given"),
        ({"calibration": (SAMPLE[0], SAMPLE[1][:2])}, r"accuracy has the shape \(2,\)"),
        ({"calibration": (SAMPLE[0] * 2, SAMPLE[1])}, r"confidence leaves \[0, 1\]"),
        ({"calibration": (SAMPLE[0] * np.nan, SAMPLE[1])}, r"confidence leaves \[0, 1\]"),
    ],
)
def test_parts_that_do_not_go_together_leave_nothing_behind(tmp_path, checkpoint, changed, reason):
    with pytest.raises(ReliabitError, match=reason):
        write(tmp_path / "bundle", checkpoint, **changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.PKL", "deep/optimizer.pt"])
def test_pickles_are_refused(tmp_path, checkpoint, bundle, name):
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(b"x")
    with pytest.raises(ReliabitError, match="may hold a pickle"):
        write(tmp_path / "other", checkpoint)
    assert not (tmp_path / "other").exists()
    (bundle / "checkpoint" / name).parent.mkdir(exist_ok=True)
    (bundle / "checkpoint" / name).write_bytes(b"x")
    write_manifest(bundle)
    with pytest.raises(ReliabitError, match="may hold a pickle"), verified_snapshot(bundle):
        pytest.fail("it was given out all the same")


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="is no checkpoint"):
        write(tmp_path / "bundle", tmp_path / "nowhere")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ReliabitError, match="cannot be read"):
        read_description(tmp_path)
    pq.write_table(pq.read_table(_table(tmp_path)).rename_columns(["a", "b"]), tmp_path / "calibration.parquet")
    with pytest.raises(ReliabitError, match="calibration.parquet cannot be read"):
        read_calibration(tmp_path)


def _table(folder):
    import pyarrow as pa

    pq.write_table(pa.table({"confidence": [0.1], "accuracy": [1.0]}), folder / "calibration.parquet")
    return folder / "calibration.parquet"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(bundle, data):
    """Of the manifest's own bits, those that only change how it is laid out say the same and may pass."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != MANIFEST)
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    where, bit = data.draw(st.integers(0, len(before) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(before)
    changed[where] ^= 1 << bit
    path.write_bytes(changed)
    try:
        with pytest.raises(ReliabitError, match=f"{path.name} differs from what {MANIFEST} lists"):
            verify_manifest(bundle)
    finally:
        path.write_bytes(before)
    verify_manifest(bundle)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "README.md").unlink(), "README.md is missing"),
        (lambda folder: (folder / ".hidden").write_text("x"), ".hidden is not listed"),
        (lambda folder: (folder / "README.md").write_text("longer than it was"), "README.md differs"),
        (lambda folder: (folder / MANIFEST).unlink(), "cannot be read as a manifest"),
        (lambda folder: (folder / "link").symlink_to("README.md"), "link is no plain file"),
        (lambda folder: (folder / "up").symlink_to(".."), "up is no plain file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe is no plain file"),
    ],
)
def test_what_was_changed_is_named(bundle, change, reason):
    change(bundle)
    with pytest.raises(ReliabitError, match=reason):
        verify_manifest(bundle)


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/passwd": {"sha256": "", "bytes": 0}},
        {"../outside": {"sha256": "", "bytes": 0}},
        {"a/../../b": {"sha256": "", "bytes": 0}},
        {"README.md": {}},
        {"README.md": 3},
        ["README.md"],
        None,
    ],
)
def test_manifests_that_are_none_are_refused(bundle, files):
    (bundle / MANIFEST).write_text(json.dumps({"format": 1, "files": files}))
    with pytest.raises(ReliabitError):
        verify_manifest(bundle)


def test_a_newer_manifest_is_refused(bundle):
    (bundle / MANIFEST).write_text(json.dumps({"format": 2, "files": {}}))
    with pytest.raises(ReliabitError, match="is in format 2, and this version reads format 1"):
        verify_manifest(bundle)


def test_one_digest_stands_for_the_whole_bundle(tmp_path, checkpoint, bundle):
    before = manifest_digest(bundle)
    assert manifest_digest(write(tmp_path / "again", checkpoint)) == before
    assert manifest_digest(write(tmp_path / "other", checkpoint, card="# Another card")) != before
