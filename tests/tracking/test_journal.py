import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from messages import LEADS_OUT
from reliabit.errors import ReliabitError
from reliabit.tracking.journal._records import RECORDS, read_run, read_runs
from reliabit.tracking.sweep.parent import read_parent, write_parent
from reliabit.tracking.tracker import Journal

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"}


def test_a_journal_gives_back_what_it_was_given(journal, tmp_path):
    sweep = journal.start("sweep", tags={"kind": "sweep"})
    with journal.run("cell·4b", tags={"bits": "4"}, parent=sweep.run_id) as run:
        run.log_parameters(
            {"quant": {"bits": 4}, "template": 'say "ä"\n{question}', **{f"k{i}": i for i in range(150)}}
        )
        run.log_metrics({"selective/aurc": 0.1, "threshold": math.inf, "undefined": math.nan, "tiny": 5e-324})
        run.set_tags({"bits": "3", "more": "x"})
    (found,) = journal.children(sweep.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "cell·4b"
    assert found.data.params["quant.bits"] == "4"
    assert found.data.params["template"] == 'say "ä"\n{question}'
    assert len(found.data.params) == 152
    assert found.data.metrics["selective/aurc"] == 0.1
    assert found.data.metrics["tiny"] == 5e-324
    assert math.isnan(found.data.metrics["threshold"])
    assert math.isnan(found.data.metrics["undefined"])
    assert found.data.tags["bits"] == "3"
    assert found.info.start_time <= found.info.end_time <= time.time() * 1000
    assert [run.info.status for run in journal.runs_with({})] == ["RUNNING", "FINISHED"]


def test_artifacts_come_back_as_they_were(journal, tmp_path):
    file = tmp_path / "table.parquet"
    file.write_bytes(os.urandom(100))
    with journal.run("cell", tags={}) as run:
        run.log_file(file)
        run.log_file(file, folder="deep/er")
        run.log_text("first", "note.txt")
        run.log_text("second ä", "note.txt")
        figure = Figure()
        figure.add_subplot().plot([0, 1])
        run.log_figure(figure, "figures/plot.png")
        run.log_text("hidden", ".hydra/config.yaml")
    assert journal.fetch(run.run_id, "table.parquet", tmp_path / "a").read_bytes() == file.read_bytes()
    assert journal.fetch(run.run_id, "deep", tmp_path / "b").joinpath("er", "table.parquet").is_file()
    assert journal.fetch(run.run_id, "note.txt", tmp_path / "c").read_text() == "second ä"
    assert journal.fetch(run.run_id, "figures/plot.png", tmp_path / "d").read_bytes().startswith(b"\x89PNG")
    recorded = read_run(journal.folder / run.run_id)
    expected = ["table.parquet", "deep/er/table.parquet", "note.txt", "figures/plot.png", ".hydra/config.yaml"]
    assert recorded.artifacts == expected
    with pytest.raises(ReliabitError, match=r"has no other.txt to read"):
        journal.fetch(run.run_id, "other.txt", tmp_path)
    with pytest.raises(ReliabitError, match=r"has no note.txt to read"):
        journal.fetch("0" * 32, "note.txt", tmp_path)


def test_failures_are_recorded_like_in_a_store(journal):
    with pytest.raises(ZeroDivisionError), journal.run("bad", tags={}):
        _ = 1 / 0
    with pytest.raises(KeyboardInterrupt), journal.run("stopped", tags={}):
        raise KeyboardInterrupt
    bad, stopped = journal.runs_with({})
    assert (bad.info.status, stopped.info.status) == ("FAILED", "KILLED")
    assert bad.data.tags["failure.type"] == "ZeroDivisionError"
    assert read_run(journal.folder / bad.info.run_id).artifacts == ["traceback.txt"]


@pytest.mark.parametrize("name", ["../note.txt", "/etc/note.txt", "a/../../note.txt"])
def test_artifacts_stay_in_their_folder(journal, name):
    with pytest.raises(ReliabitError, match=f"{LEADS_OUT} the run's folder"), journal.run("cell", tags={}) as run:
        run.log_text("x", name)


def test_a_parent_is_found_by_its_cells(journal, tmp_path):
    write_parent(tmp_path / "parent.json", journal.start("sweep", tags={}).run_id)
    parent = read_parent(str(tmp_path / "parent.json"))
    with Journal(journal.folder).run("cell", tags={}, parent=parent):
        pass
    assert [run.info.run_name for run in journal.children(parent)] == ["cell"]


def test_a_run_that_was_taken_back_is_not_listed(journal):
    run = journal.start("sweep", tags={})
    journal.client.delete_run(run.run_id)
    assert journal.runs_with({}) == []


def test_a_line_cut_off_anywhere_leaves_what_was_before_it(journal):
    with journal.run("cell", tags={"ä": "ö"}) as run:
        run.log_metrics({"a": 1.0, "b": math.nan})
        run.log_parameters({"c": "d"})
    path = journal.folder / run.run_id / RECORDS
    content = path.read_bytes()
    records = [json.loads(line) for line in content.splitlines()]
    metrics, parameters = (next(i for i, r in enumerate(records) if kind in r) for kind in ("metrics", "parameters"))
    seen = set()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        found = read_run(path.parent)
        whole = content[:size].count(b"\n")
        assert (found is None) == (whole == 0)
        if found is not None:
            seen.add(whole)
            assert (found.status is not None) == (whole == len(records))
            assert len(found.metrics) == (2 if whole > metrics else 0)
            assert found.parameters == ({"c": "d"} if whole > parameters else {})
    assert seen == set(range(1, len(records) + 1))


@pytest.mark.parametrize("torn", [b"", b"{", b'{"tags": {"a": "\xc3', b"x" * 5000])
def test_a_run_whose_last_line_is_cut_off_can_be_gone_on_with(journal, torn):
    run = journal.start("sweep", tags={})
    with (journal.folder / run.run_id / RECORDS).open("ab") as file:
        file.write(torn)
    run.log_metrics({"after": 1.0})
    assert [metric.name for metric in read_run(journal.folder / run.run_id).metrics] == ["after"]


def test_a_sweep_that_ended_can_be_opened_again(journal):
    run = journal.start("sweep", tags={})
    journal.client.set_terminated(run.run_id, "KILLED")
    journal.client.update_run(run.run_id, status="RUNNING")
    assert journal.client.get_run(run.run_id).info.status == "RUNNING"
    assert journal.client.get_run(run.run_id).info.end_time is None
    journal.client.set_terminated(run.run_id, "FINISHED")
    assert journal.client.get_run(run.run_id).info.status == "FINISHED"


def test_runs_are_found_by_what_they_carry_page_by_page(journal):
    for number in range(5):
        with journal.run(f"run {number}", tags={"odd": str(number % 2), "it's": "x"}):
            pass
    journal.client.delete_run(journal.start("gone", tags={"odd": "0"}).run_id)
    assert [run.info.run_name for run in journal.runs_with({"odd": "0"})] == ["run 0", "run 2", "run 4"]
    first = journal.client.search_runs([journal.experiment_id], "tags.odd = '0'", max_results=2)
    rest = journal.client.search_runs([journal.experiment_id], "tags.odd = '0'", max_results=2, page_token=first.token)
    assert [run.info.run_name for run in [*first, *rest]] == ["run 0", "run 2", "run 4"]
    assert rest.token is None
    assert journal.client.search_runs([journal.experiment_id], "attributes.status = 'RUNNING'") == []


def test_everything_that_a_run_logged_can_be_fetched_at_once(journal, tmp_path):
    with journal.run("cell", tags={}) as run:
        run.log_text("a", "a.txt")
        run.log_text("b", "deep/b.txt")
    journal.client.download_artifacts(run.run_id, "", str(tmp_path / "all"))
    assert sorted(path.name for path in (tmp_path / "all").rglob("*.txt")) == ["a.txt", "b.txt"]


def test_threads_of_a_run_do_not_mix_their_lines(journal):
    run = journal.start("cell", tags={})

    def write(thread):
        for step in range(30):
            run.log_metrics({f"thread_{thread}/{step}": float(step)})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_run(journal.folder / run.run_id).metrics) == 120


def test_what_a_killed_process_wrote_is_there_up_to_the_last_record(tmp_path):
    chance = random.Random(0)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        command = [sys.executable, str(TESTS / "tracking" / "journal_worker.py"), str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        _, cut = process.stdout.readline().split()
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        found = {run.name: run for run in read_runs(folder)}
        assert found["finished"].status == "FINISHED"
        assert found["cut short"].status is None
        metrics = found["cut short"].metrics
        assert [metric.name for metric in metrics] == [f"step_{step}" for step in range(len(metrics))]
        for name in found["cut short"].artifacts:
            text = (folder / cut / "artifacts" / name).read_text()
            assert text == text[: len(text) // 1000] * 1000, "never half a file"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from reliabit.errors import ReliabitError
from reliabit.tracking.tracker import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
run = journal.start("cell", tags={})
run.log_metrics({"before": 1.0})
size = (journal.folder / run.run_id / "records.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
for log in (lambda: run.log_metrics({"during": 1.0}), lambda: run.log_text("x" * 9999, "a.txt")):
    try:
        log()
    except ReliabitError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.log_metrics({"after": 1.0})
"""


def test_a_full_disk_is_named_and_leaves_a_journal_that_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    first, second = done.stdout.splitlines()
    assert "records.jsonl cannot be written (File too large); free or correct its place" in first
    assert "a.txt cannot be written (File too large)" in second
    (found,) = read_runs(tmp_path)
    assert [metric.name for metric in found.metrics] == ["before", "after"]
    assert found.artifacts == []
    assert not list((found.folder / "artifacts").iterdir())


def test_what_is_no_journal_is_refused(journal, tmp_path):
    with pytest.raises(ReliabitError, match="there is no journal at"):
        read_runs(tmp_path / "nowhere")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReliabitError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal")
    run = journal.start("cell", tags={})
    path = journal.folder / run.run_id / RECORDS
    path.write_text(path.read_text() + "{damaged\n" + json.dumps({"tags": {}}) + "\n")
    with pytest.raises(ReliabitError, match="is damaged in line 2"):
        journal.runs_with({})
    path.write_text(json.dumps({"version": 9}) + "\n")
    with pytest.raises(ReliabitError, match="is a journal of version 9, and this Reliabit reads version 1"):
        journal.runs_with({})
