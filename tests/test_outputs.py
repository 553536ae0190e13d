"""Every output folder belongs to one process, however many want it at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reliabit.errors import ReliabitError
from reliabit.outputs import CLAIM, TakenError, claim, claim_free
from reliabit.tasks.pretrain import alone

PROJECT = Path(__file__).parents[1]

TAKE = """
import sys, time
from pathlib import Path
from reliabit.outputs import claim_free
print(claim_free(Path(sys.argv[1]), key="hydra.run.dir").folder.name, flush=True)
sys.stdin.read()
"""


def test_processes_that_want_one_folder_at_once_get_one_each(tmp_path):
    command = [sys.executable, "-c", TAKE, str(tmp_path / "12-00-00")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "src"}, cwd=PROJECT, **pipes) for _ in "1234"]
    names = [process.stdout.readline().strip() for process in started]
    for process in started:
        process.communicate("")
    assert sorted(names) == ["12-00-00", "12-00-00-2", "12-00-00-3", "12-00-00-4"]


def test_of_many_threads_one_gets_a_folder(tmp_path):
    def take(_):
        try:
            return claim(tmp_path / "out", key="paths.output")
        except TakenError:
            return None

    with ThreadPoolExecutor(16) as pool:
        taken = [found for found in pool.map(take, range(64)) if found is not None]
    assert len(taken) == 1


def test_what_was_written_keeps_a_folder_taken(tmp_path):
    first = claim(tmp_path / "out", key="paths.output")
    with pytest.raises(TakenError, match=f"is being written by process {os.getpid()} on "):
        claim(tmp_path / "out", key="paths.output")
    (first.folder / "metrics.json").write_text("{}")
    first.release()
    assert [path.name for path in first.folder.iterdir()] == ["metrics.json"]
    with pytest.raises(TakenError, match=r"paths.output=.*out holds files already; name another folder"):
        claim(tmp_path / "out", key="paths.output")
    assert [path.name for path in first.folder.iterdir()] == ["metrics.json"]


def test_an_empty_folder_can_be_taken_and_stays(tmp_path):
    claim(tmp_path, key="paths.output").release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_for_nothing_goes(tmp_path):
    taken = claim(tmp_path / "out", key="hydra.run.dir")
    (taken.folder / ".hydra").mkdir()
    (taken.folder / ".hydra" / "config.yaml").write_text("")
    taken.release(unless=[".hydra"])
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_named(tmp_path):
    code = TAKE.replace("sys.stdin.read()", "import os; os._exit(9)")
    environment = {**os.environ, "PYTHONPATH": "src"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], env=environment, cwd=PROJECT, check=False)
    assert (tmp_path / "out" / CLAIM).is_file()
    with pytest.raises(TakenError, match=r"holds what process \d+ left behind when it was killed; name another"):
        claim(tmp_path / "out", key="paths.output")


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReliabitError, match="is a file; name a folder"):
        claim(tmp_path / "file", key="paths.output")
    with pytest.raises(ReliabitError, match="cannot be made"):
        claim_free(tmp_path / "file" / "below", key="paths.output")


def test_one_process_trains_a_model(tmp_path):
    message = "another process is training with the checkpoints .*pretrain-tiny; wait"
    with (
        alone(tmp_path / "pretrain-tiny"),
        pytest.raises(ReliabitError, match=message),
        alone(tmp_path / "pretrain-tiny"),
    ):
        pass
    with alone(tmp_path / "pretrain-tiny"):
        pass
