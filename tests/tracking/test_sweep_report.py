"""The report of a recorded sweep: where its numbers come from, without a secret, and what becomes of one that fails."""

from dataclasses import replace

import pytest

from evaluation.sweep_report.made import SETTINGS, reported_sweep
from evaluation.sweep_report.test_page import contents_of
from reliabit import identity
from reliabit.errors import ReliabitError
from reliabit.tracking.context import COMMIT
from reliabit.tracking.sweep import _recording
from reliabit.tracking.sweep.parent import OVERRIDES, start_parent
from reliabit.tracking.sweep.report import as_measured, sweep_page

SECRET = "s3cretpassword"


@pytest.fixture
def recorded(tracker):
    """A parent run, and made cells as if two runs of it had measured them."""
    uri = f"tracking.uri=postgresql://me:{SECRET}@db.example/runs"
    parent = start_parent(tracker, overrides=["quant.bits=4,2", uri])
    sweep = reported_sweep()
    cells = []
    for cell in sweep.cells:
        run = tracker.start(cell.name, tags={COMMIT: "c" * 40, "git.dirty": "true"}, parent=parent.run_id)
        config = {**cell.config, "tracking": {"uri": f"postgresql://me:{SECRET}@db.example/runs"}}
        run.log_text('{"libraries": {"torch": "2.13.0+cpu", "hydra-core": "1.3.8"}}', identity.FINGERPRINT)
        cells.append(replace(cell, run_id=run.run_id, config=config))
    return parent, replace(sweep, cells=cells)


def test_a_page_tells_where_it_comes_from_and_no_secret(tracker, recorded, tmp_path):
    parent, sweep = recorded
    page = sweep_page(
        tracker, parent.run_id, sweep, cache=tmp_path, then=f"run --key {SECRET} tracking.uri=a://b:{SECRET}@c"
    )
    assert f":{SECRET}@" not in page
    told = contents_of(page)["provenance"]
    assert told["facts"]["parent run"] == parent.run_id
    assert told["facts"]["command"].endswith("-m quant.bits=4,2 'tracking.uri=postgresql://[redacted]@db.example/runs'")
    assert told["facts"]["commit"] == f"{'c' * 40} (git.dirty is true)"
    # Of the libraries, those that compute.
    assert told["facts"]["torch"] == "2.13.0+cpu"
    assert "hydra-core" not in told["facts"]
    assert [one["run"] for one in told["runs"].values()] == [cell.run_id for cell in sweep.cells]
    assert "model:" in told["config"]


def test_overrides_that_are_no_list_without_their_secrets_are_told_as_they_are(tracker, recorded, tmp_path):
    parent, sweep = recorded
    tracker.client.set_tag(parent.run_id, OVERRIDES, '["a=1", [redacted]]')
    told = contents_of(sweep_page(tracker, parent.run_id, sweep, cache=tmp_path, then=""))["provenance"]
    assert told["facts"]["command"].endswith('-m ["a=1", [redacted]]')


def test_a_sweep_without_a_finished_cell_has_no_report(tracker, recorded):
    parent, sweep = recorded
    with pytest.raises(ReliabitError, match=f"no cell of the sweep {parent.run_id} finished"):
        sweep_page(tracker, parent.run_id, replace(sweep, cells=[]), cache=None, then="")


def test_cells_are_compared_as_they_were_measured():
    [cell, *_] = reported_sweep().cells
    measured = replace(cell, config={**cell.config, "evaluation": {"resamples": 7, "of_an_older_version": 1}})
    assert as_measured([measured], SETTINGS) == replace(SETTINGS, resamples=7)
    assert as_measured([], SETTINGS) == SETTINGS


def test_a_report_that_cannot_be_made_spoils_nothing_else(tracker, recorded, tmp_path, monkeypatch, capsys):
    parent, sweep = recorded

    def too_large(*_, **__):
        raise ReliabitError("the report of this sweep takes 9.0 MB")

    monkeypatch.setattr(_recording, "sweep_page", too_large)
    opened = _recording.OpenSweep(
        tracker=tracker,
        tracking=None,
        run=parent,
        new=True,
        asked=3,
        settings=sweep.settings,
        policy=sweep.policy,
        paper=False,
        folder=tmp_path,
        report="full",
    )
    assert not _recording._record_report(opened, sweep, then="")
    assert capsys.readouterr().err == "there is no report.html: the report of this sweep takes 9.0 MB\n"
    assert not _recording._record_report(replace(opened, report="none"), sweep, then="")
    assert not (tmp_path / "report.html").exists()
