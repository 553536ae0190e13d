"""A disk that takes nothing more: one sentence, status 2, and nothing half-written."""

import errno
import resource
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from disks import small_disk
from launching import run_job
from messages import NO_SPACE
from reliabit.disk_errors import plain_disk_errors
from reliabit.errors import ReliabitError
from reliabit.files import replacing, staged_folder


def test_other_errors_of_the_system_pass():
    with pytest.raises(FileNotFoundError), plain_disk_errors():
        Path("/nowhere/at/all").read_bytes()


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.medium
def test_a_file_that_may_not_grow_ends_in_one_sentence(tmp_path):
    arguments = ["task=prepare", f"paths.data={tmp_path}/data", f"hydra.run.dir={tmp_path}/run"]
    done = run_job(*arguments, preexec_fn=limited)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "may not grow further (ulimit -f); make room" in done.stderr
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "data/x may not be read or written by this user"),
        (errno.ENOTDIR, "data/x needs a folder where there is"),
    ],
)
def test_a_place_that_is_refused_is_named(number, message):
    with pytest.raises(ReliabitError, match=message), plain_disk_errors():
        raise OSError(number, "refused", "data/x")


def test_a_file_in_the_place_of_a_folder_ends_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ReliabitError, match="file needs a folder where there is a file"), plain_disk_errors():
        (tmp_path / "file").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def disk_of(tmp_path):
    """Mounts a disk of so many KiB."""
    with ExitStack() as stack:
        yield lambda kib: stack.enter_context(small_disk(tmp_path / "disk", size=f"{kib}k"))


DATA = np.random.default_rng(0).integers(0, 255, 1_000_000, dtype=np.uint8)


def write_tensors(path):
    save_file({"a": torch.from_numpy(DATA)}, path)


def write_array(path):
    with path.open("wb") as file:
        np.save(file, DATA)


def write_checkpoint(path):
    torch.save(torch.from_numpy(DATA), path)


def write_table(path):
    pq.write_table(pa.table({"a": DATA}), path)


def write_image(path):
    Image.fromarray(DATA.reshape(1000, 1000)).save(path, format="png")


def write_tokenizer(path):
    vocabulary = {f"{number:012d}": number for number in range(20_000)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="0" * 12)).save(str(path))


WRITERS = [write_tensors, write_array, write_checkpoint, write_table, write_image, write_tokenizer]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_told_alike_whichever_library_writes_and_leaves_nothing(write, disk_of):
    disk = disk_of(200)
    with (
        pytest.raises(ReliabitError, match=rf"^{disk}/kept/file {NO_SPACE}; make room"),
        plain_disk_errors(),
        replacing(disk / "kept" / "file") as unfinished,
    ):
        write(unfinished)
    with (
        pytest.raises(ReliabitError, match=rf"^{disk}/folder {NO_SPACE}; make room"),
        plain_disk_errors(),
        staged_folder(disk / "folder") as staging,
    ):
        write(staging / "file")
    assert [path for path in disk.rglob("*") if path.is_file() or path.name == "folder"] == []


SWEEP = ("-m", "task=footprint", "quant.bits=2,3")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kib", "arguments", "told"),
    [
        (4, ["task=footprint", "hydra.run.dir={disk}/run"], "/disk/run/.hydra/"),
        (8, [*SWEEP, "hydra.sweep.dir={disk}/s", "tracking.uri=journal://{free}/j"], "/disk/s/"),
        (
            100,
            [*SWEEP, "hydra.sweep.dir={free}/s", "tracking.uri=sqlite:///{disk}/m.db"],
            f"/disk/m.db {NO_SPACE}",
        ),
    ],
)
def test_a_full_disk_below_a_run_s_folder_a_sweep_s_or_the_store_is_one_sentence(
    kib, arguments, told, disk_of, tmp_path
):
    disk = disk_of(kib)
    placed = [argument.format(disk=disk, free=tmp_path / "free") for argument in arguments]
    done = run_job(*placed, f"paths.cache={tmp_path}/cache", timeout=300)
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.splitlines()
    assert told in sentence
    assert NO_SPACE in sentence
    assert [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.slow
def test_a_full_disk_below_the_cache_is_one_sentence_and_keeps_nothing_half_written(disk_of, tmp_path):
    disk = disk_of(400)
    arguments = [
        *("task=answer", "data=scenes", "data.splits={train:4,val:2,test:2}", f"paths.data={tmp_path}/data"),
        *(f"paths.cache={disk}/cache", f"hydra.run.dir={tmp_path}/run"),
    ]
    done = run_job(*arguments, timeout=300)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {disk}/cache/encoded/")
    assert f"{NO_SPACE}; make room" in done.stderr
    assert not [path for path in disk.rglob("*") if path.is_file() and path.suffix == ".safetensors"]
    assert not (tmp_path / "run").exists()
