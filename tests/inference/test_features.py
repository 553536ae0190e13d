"""The features file: rows as they come, aligned with the predictions, and never held in memory as a whole."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from reliabit.errors import DamagedError, ReliabitError
from reliabit.inference.features import feature_writer, read_features
from reliabit.inference.settings import FeatureSettings


def keys_of(count, split="test"):
    return pa.table(
        {
            "source": ["made"] * count,
            "split": [split] * count,
            "shift": ["none"] * count,
            "question_id": [str(number) for number in range(count)],
        }
    )


def blocks_of(rng, count, width=6):
    return {name: rng.normal(size=(count, width)).astype(np.float32) for name in ("image", "question", "first")}


def test_rows_come_back_in_order(tmp_path):
    rng, keys = np.random.default_rng(0), keys_of(7)
    parts = [blocks_of(rng, count) for count in (3, 4)]
    with feature_writer(tmp_path / "features", keys=keys, settings=FeatureSettings()) as writer:
        for part in parts:
            writer.append(part)
    read = read_features(tmp_path / "features", predictions=keys.append_column("x", pa.array(range(7))))
    for name, block in read.items():
        assert isinstance(block, np.memmap)
        expected = np.concatenate([part[name] for part in parts]).astype(np.float16)
        assert np.array_equal(block, expected)


def test_large_states_ask_for_a_wider_type(tmp_path):
    large = {name: np.full((1, 2), 70000.0, np.float32) for name in ("image", "question", "first")}
    with (
        pytest.raises(ReliabitError, match=r"image states of question 0 reach 70000, too large for float16; set"),
        feature_writer(tmp_path / "f", keys=keys_of(1), settings=FeatureSettings()) as writer,
    ):
        writer.append(large)
    assert not list(tmp_path.iterdir())
    with feature_writer(tmp_path / "f", keys=keys_of(1), settings=FeatureSettings(dtype="float32")) as writer:
        writer.append(large)
    assert read_features(tmp_path / "f", predictions=keys_of(1))["image"].tolist() == [[70000.0, 70000.0]]


def test_states_that_are_not_finite_are_named(tmp_path):
    bad = blocks_of(np.random.default_rng(0), 3)
    bad["first"][1, 0] = np.nan
    with (
        pytest.raises(ReliabitError, match="first states of question 1 are not finite"),
        feature_writer(tmp_path / "f", keys=keys_of(3), settings=FeatureSettings()) as writer,
    ):
        writer.append(bad)


def test_missing_rows_leave_nothing_behind(tmp_path):
    with (
        pytest.raises(ReliabitError, match="3 feature rows do not belong to 5 questions"),
        feature_writer(tmp_path / "f", keys=keys_of(5), settings=FeatureSettings()) as writer,
    ):
        writer.append(blocks_of(np.random.default_rng(0), 3))
    assert not list(tmp_path.iterdir())


def test_features_of_other_predictions_and_broken_files_are_refused(tmp_path):
    folder = tmp_path / "f"
    with pytest.raises(ReliabitError, match="holds no features; run task=answer"):
        read_features(folder, predictions=keys_of(2))
    with feature_writer(folder, keys=keys_of(2), settings=FeatureSettings()) as writer:
        writer.append(blocks_of(np.random.default_rng(0), 2))
    with pytest.raises(ReliabitError, match="not of these predictions"):
        read_features(folder, predictions=keys_of(2, split="val"))
    with (folder / "first.npy").open("r+b") as file:
        file.truncate(140)
    with pytest.raises(DamagedError, match=r"first\.npy differs from its hash; run task=answer again"):
        read_features(folder, predictions=keys_of(2))
    (folder / "first.npy").unlink()
    with pytest.raises(DamagedError, match=r"first\.npy cannot be read \(No such file"):
        read_features(folder, predictions=keys_of(2))
    record = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**record, "version": 1}))
    with pytest.raises(ReliabitError, match="is of format 1 and this Reliabit reads 2"):
        read_features(folder, predictions=keys_of(2))


STREAM = """
import resource, sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from reliabit.inference.features import FeatureSettings, feature_writer
rows, width, batch = 20_000, 3584, 250
text = pa.array(["x"] * rows)
keys = pa.table({"source": text, "split": text, "shift": text, "question_id": pa.array(map(str, range(rows)))})
block = np.random.default_rng(0).normal(size=(batch, width)).astype(np.float32)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with feature_writer(Path(sys.argv[1]), keys=keys, settings=FeatureSettings()) as writer:
    writer.append({name: block for name in ("image", "question", "first")})
    before = peak()
    for _ in range(rows // batch - 1):
        writer.append({name: block for name in ("image", "question", "first")})
print(peak() - before)
"""


def test_a_full_size_model_streams_to_disk(tmp_path):
    """20 000 questions of a 3584-wide model: 430 MB on disk, a few megabytes in memory."""
    done = subprocess.run(
        [sys.executable, "-c", STREAM, tmp_path / "f"], capture_output=True, text=True, check=True, timeout=120
    )
    grown = int(done.stdout) * 1024
    written = sum(path.stat().st_size for path in (tmp_path / "f").glob("*.npy"))
    assert written > 3 * 20_000 * 3584 * 2
    assert grown < written / 20, f"grew by {grown} bytes"
