"""A disk that takes nothing more: one sentence, status 2, and nothing half-written."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reliabit.disk_errors import plain_disk_errors

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
