"""`reliabit reap | sync | doctor`, as a user calls them."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from reliabit.cache import entries
from reliabit.cli import main
from reliabit.commands import upkeep
from reliabit.tracking.tracker import Journal, Tracker
from test_cache import entry


def store_overrides(folder):
    return [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.artifacts={folder}/artifacts"]


def test_the_doctor_shows_and_clears(tmp_path, capsys):
    entry(tmp_path, "a", size=100, used=time.time())
    main(["doctor", f"paths.cache={tmp_path}", f"paths.root={tmp_path}"])
    told = capsys.readouterr().out
    assert "answers: 1 entries" in told
    assert f"{tmp_path}/models/idefics3_smollm2 is not assembled yet; run make pretrained" in told
    main(["doctor", "--keep-gib", "0", f"paths.cache={tmp_path}"])
    assert "removed 1 entries" in capsys.readouterr().out
    assert list(entries(tmp_path)) == []


@pytest.mark.medium
def test_a_journal_is_imported_once(tmp_path, capsys):
    with Journal(tmp_path / "journal").run("cell", tags={"kind": "cell"}) as run:
        run.log_metrics({"x": 0.5})
    for expected in ("1 runs imported, 0 were there", "0 runs imported, 1 were there"):
        main(["sync", "--journal", str(tmp_path / "journal"), *store_overrides(tmp_path)])
        assert expected in capsys.readouterr().out
    tracker = Tracker(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=f"{tmp_path}/artifacts", experiment="reliabit")
    assert [found.data.metrics for found in tracker.runs_with({"kind": "cell"})] == [{"x": 0.5}]


@pytest.mark.medium
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


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "http", "", "1e3", "9" * 5000])
def test_what_is_no_port_is_refused_at_once(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--port", port])
    assert ended.value.code == 2
    assert "is no port; choose one of 1 to 65535" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("size", ["nan", "inf", "-inf", "-1", "1e308", "much", ""])
def test_what_is_no_size_removes_nothing(size, tmp_path, capsys):
    entry(tmp_path, "a", size=100, used=1)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", f"--keep-gib={size}", f"paths.cache={tmp_path}"])
    assert ended.value.code == 2
    assert "is no size; give a number of GiB, 0 or more" in capsys.readouterr().err.splitlines()[-1]
    assert len(list(entries(tmp_path))) == 1


def test_a_service_that_cannot_start_says_so_in_one_line(tmp_path, capsys):
    for arguments, message in (
        (["--bundle", f"{tmp_path}/nowhere", "--port", "0"], "nowhere is no folder; name the one that `reliabit pull`"),
        (["--bundle", str(tmp_path), "--host", "nowhere.invalid"], "no address is known for the host"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        written = capsys.readouterr().err
        assert (ended.value.code, written.count("\n"), message in written) == (2, 1, True), written


PROBE = """
import sys, time
from reliabit.cli import main
try:
    main(sys.argv[1:])
finally:
    print(time.process_time(), *sorted({"torch", "transformers", "mlflow", "lightning", "datasets"} & set(sys.modules)))
"""


@pytest.mark.medium
def test_a_report_is_refused_where_a_folder_stands_before_a_store_is_opened(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", "--file", str(tmp_path), f"tracking.uri=sqlite:///{tmp_path}/never.db"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: --file={tmp_path} is a folder; name a file in it\n"
    assert not (tmp_path / "never.db").exists()


def test_what_keeps_a_service_from_starting_is_told_before_a_model_is_looked_for(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, message in (
            (["serve", "--port", port], f"cannot listen at 127.0.0.1 port {port}: something listens there already;"),
            (["serve", "--port", "0", "--bundle", f"{tmp_path}/nowhere"], "nowhere is no folder; name the one that"),
            (["serve", "--port", "0", "tracking=offline"], "tracking=offline has no registry; use tracking=sqlite"),
            (["promote", "tracking=offline"], "tracking=offline has no registry; use tracking=sqlite"),
        ):
            command = [sys.executable, "-c", PROBE, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert message in done.stderr
            seconds, *heavy = done.stdout.split()
            assert heavy == []
            assert float(seconds) < 3


def test_every_command_that_is_interrupted_ends_in_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(upkeep, "reap_runs", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["reap"])
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


@pytest.mark.medium
def test_a_service_that_is_interrupted_while_it_loads_ends_in_one_line(tmp_path):
    """The tracking server takes connections and says nothing: the service waits for what never comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        # Whoever runs tests in the background has them ignore the signal, and what they start as well.
        listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{listens}; from reliabit.cli import main; main()"
        address = f"tracking.uri=http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", code, "serve", "--port", "0", "tracking=server", address]
        with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, written = process.communicate(timeout=60)
            connection.close()
    assert (process.returncode, written) == (130, b"interrupted\n")
