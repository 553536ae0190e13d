"""`reliabit reap | sync | doctor`, as a user calls them."""

import subprocess
import sys

import pytest

from reliabit.cache import abandoned, entries, keep_room, make_room
from reliabit.cli import main
from reliabit.tracking.journal import Journal
from reliabit.tracking.tracker import Tracker


def store_overrides(folder):
    return [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.artifacts={folder}/artifacts"]


def entry(cache, name, *, size, used):
    import os

    folder = cache / "answers" / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * size)
    os.utime(folder, (used, used))


def test_room_is_made_from_what_was_of_no_use_for_longest(tmp_path):
    for number, name in enumerate("abcd"):
        entry(tmp_path, name, size=100, used=1000 + number)
    (tmp_path / "answers" / ".half").mkdir()
    removed = make_room(tmp_path, limit=250)
    assert sorted(found.folder.name for found in removed) == ["a", "b"]
    assert [found.folder.name for found in entries(tmp_path)] == ["c", "d"]
    assert make_room(tmp_path, limit=250) == []


def test_what_a_run_may_be_using_stays_whatever_the_limit(tmp_path):
    for name, used in (("old", 1000), ("older", 500), ("new", 9000)):
        entry(tmp_path, name, size=100, used=used)
    assert keep_room(tmp_path, limit=300, now=10_000) == []
    assert [found.folder.name for found in keep_room(tmp_path, limit=150, now=10_000)] == ["old", "older"]
    assert keep_room(tmp_path, limit=0, now=10_000) == []
    assert [found.folder.name for found in entries(tmp_path)] == ["new"]


def test_what_a_killed_run_left_is_removed_once_it_is_old(tmp_path):
    import os
    import time

    for name, age in ((".old.x", 7200), (".young.x", 10)):
        (tmp_path / "answers" / name).mkdir(parents=True)
        (tmp_path / "answers" / name / "half").write_text("x")
        os.utime(tmp_path / "answers" / name, (time.time() - age,) * 2)
    assert [folder.name for folder in abandoned(tmp_path)] == [".old.x"]
    make_room(tmp_path, limit=100)
    assert [folder.name for folder in (tmp_path / "answers").iterdir()] == [".young.x"]


def test_the_doctor_shows_and_clears(tmp_path, capsys):
    entry(tmp_path, "a", size=100, used=1)
    main(["doctor", f"paths.cache={tmp_path}"])
    assert "answers: 1 entries" in capsys.readouterr().out
    main(["doctor", "--keep-gib", "0", f"paths.cache={tmp_path}"])
    assert "removed 1 entries" in capsys.readouterr().out
    assert list(entries(tmp_path)) == []


def test_a_journal_is_imported_once(tmp_path, capsys):
    with Journal(tmp_path / "journal").run("cell", tags={"kind": "cell"}) as run:
        run.log_metrics({"x": 0.5})
    for expected in ("1 runs imported, 0 were there", "0 runs imported, 1 were there"):
        main(["sync", "--journal", str(tmp_path / "journal"), *store_overrides(tmp_path)])
        assert expected in capsys.readouterr().out
    tracker = Tracker(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=f"{tmp_path}/artifacts", experiment="reliabit")
    assert [found.data.metrics for found in tracker.runs_with({"kind": "cell"})] == [{"x": 0.5}]


def test_the_run_of_a_killed_process_is_closed(tmp_path, capsys):
    code = (
        "import os, signal; from reliabit.tracking.tracker import Tracker; "
        f"t = Tracker(uri='sqlite:///{tmp_path}/mlflow.db', artifacts='{tmp_path}/artifacts', experiment='reliabit'); "
        "t.start('cell', tags={}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == -9
    main(["reap", *store_overrides(tmp_path)])
    assert "1 runs closed" in capsys.readouterr().out


def test_mistakes_end_in_one_line(tmp_path, capsys):
    for arguments, message in (
        (["sync", "--journal", f"{tmp_path}/nowhere"], "is no journal"),
        (["reap", "tracking=nowhere"], "tracking=nowhere is not an option of this group"),
        (["reap", "tracking.uri=plain"], "is a plain folder, which MLflow 3 refuses"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
