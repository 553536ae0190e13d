"""A disk that takes nothing more: one sentence, status 2, and nothing half-written."""

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reliabit.disk_errors import plain_disk_errors
from reliabit.errors import ReliabitError

PROJECT = Path(__file__).parents[1]


def test_other_errors_of_the_system_pass():
    with pytest.raises(FileNotFoundError), plain_disk_errors():
        Path("/nowhere/at/all").read_bytes()


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_a_file_that_may_not_grow_ends_in_one_sentence(tmp_path):
    arguments = ["task=prepare", f"paths.data={tmp_path}/data", f"hydra.run.dir={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "src/run.py", *arguments],
        cwd=PROJECT,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
    )
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
