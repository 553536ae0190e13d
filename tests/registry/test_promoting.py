"""`reliabit promote` on recorded sweeps, up to where a bundle is made."""

from argparse import Namespace

import pytest

from registry.bundles import CODE, write_bundle
from registry.measured import POLICY
from registry.test_policy import CLEAN, composed, record
from reliabit.commands.promoting import find_candidate, promote
from reliabit.errors import ReliabitError
from reliabit.registry.choosing import choose
from reliabit.registry.history import history
from reliabit.registry.registering import register_bundle
from reliabit.registry.terms import terms_of_settings
from reliabit.tracking.recorded_cells import cells_of_sweep
from tracking.stores import store_at, tracker_at

OVERRIDES = ("registry.confidence=maxprob", "registry.resamples=50", "trainer.threads=1")


@pytest.fixture
def tracker(tmp_path):
    return tracker_at(tmp_path)


def swept(tracker, folder, *, status="FINISHED"):
    """A sweep of an unquantized cell and one of 4 bits."""
    parent = tracker.start("sweep", tags={"kind": "sweep"}).run_id
    for name, overrides in (("tiny·none·s0", ["quant=none"]), ("tiny·hqq·4b·s0", ["quant.bits=4"])):
        run_id, identity = record(tracker, folder, name, parent=parent, overrides=overrides)
    tracker.client.set_terminated(parent, status) if status != "RUNNING" else None
    return parent, run_id, identity


def options(**given):
    return Namespace(**({"sweep": "last", "run": None, "dry_run": False} | given))


def config_at(folder, *overrides):
    store = [f"tracking.{key}={value}" for key, value in store_at(folder).items()]
    return composed(*store, *OVERRIDES, *overrides)


def test_a_sweep_that_still_runs_is_not_chosen_from(tracker, tmp_path):
    parent, run_id, _ = swept(tracker, tmp_path, status="RUNNING")
    for which, run in (("last", None), (parent, run_id)):
        with pytest.raises(ReliabitError, match=f"the sweep {parent} is still running"):
            find_candidate(tracker, POLICY, sweep=which, run=run)
    tracker.client.set_terminated(parent, "FINISHED")
    policy = config_at(tmp_path).registry
    assert find_candidate(tracker, policy, sweep="last", run=run_id).measurements.comparisons == 2


def test_an_unfinished_cell_is_named_for_what_it_is_and_counts(tracker, tmp_path):
    parent, run_id, _ = swept(tracker, tmp_path)
    baseline = next(run for run in tracker.children(parent) if run.info.run_name == "tiny·none·s0")
    tracker.client.update_run(baseline.info.run_id, status="RUNNING")
    # One that got no further than its tags.
    started = tracker.start("tiny·none·s1", tags=CLEAN, parent=parent).run_id
    choice = choose(cells_of_sweep(tracker, parent), config_at(tmp_path).registry)
    told = {one.candidate: [reason.text for reason in one.reasons if not reason.passed] for one in choice.decisions}
    assert choice.compared == 3
    assert told["tiny·none·s0"] == told["tiny·none·s1"] == ["it is RUNNING: only finished runs count."]
    assert "baseline tiny·none·s0 is RUNNING: only finished runs count." in told["tiny·hqq·4b·s0"]
    with pytest.raises(ReliabitError, match="tiny·none·s1 is RUNNING, and only finished cells are promoted"):
        find_candidate(tracker, config_at(tmp_path).registry, sweep=parent, run=started)
    assert run_id


def test_promoting_what_is_live_changes_nothing_and_is_no_error(tracker, tmp_path, capsys):
    _, run_id, identity = swept(tracker, tmp_path)
    config = config_at(tmp_path)
    tags = {"fingerprint": identity.hex, **terms_of_settings(config.registry).to_tags()}
    bundle = write_bundle(tmp_path / "bundle", content="x")
    version = register_bundle(tracker, bundle, run_id=run_id, name="reliabit", tags=tags, code=CODE)
    tracker.client.set_registered_model_alias("reliabit", "champion", version.number)
    assert promote(config, options(run=run_id, dry_run=True))
    assert history(tracker, "reliabit") == []
    assert promote(config, options(run=run_id))
    [attempt] = history(tracker, "reliabit")
    assert (attempt.outcome, attempt.version, attempt.previous) == ("unchanged", "1", "1")
    assert attempt.reason.startswith("tiny·hqq·4b·s0 is live already")
    assert "live already, and judged no further" in capsys.readouterr().out
    # At other terms it is something else, and refused on its merits.
    assert not promote(config_at(tmp_path, "registry.certified_risks=[0.05]"), options(run=run_id))
    assert [one.outcome for one in history(tracker, "reliabit")] == ["unchanged", "refused"]


def test_a_sweep_that_is_not_there_is_told_without_another_commands_words(tracker, tmp_path):
    with pytest.raises(ReliabitError, match=r"^there is no sweep last in this experiment; run one first$"):
        promote(config_at(tmp_path), options())
    parent, *_ = swept(tracker, tmp_path)
    told = rf"^there is no sweep nosuch in this experiment; the last one is {parent}$"
    with pytest.raises(ReliabitError, match=told):
        promote(config_at(tmp_path), options(sweep="nosuch"))


def test_a_journal_has_no_registry(tmp_path):
    config = composed("tracking=offline", f"tracking.uri=journal://{tmp_path}/journal", *OVERRIDES)
    with pytest.raises(ReliabitError, match="tracking=offline has no registry; use tracking=sqlite"):
        promote(config, options())


def test_a_store_whose_files_were_moved_says_where_it_looks(tracker, tmp_path):
    parent, *_ = swept(tracker, tmp_path)
    artifacts = tmp_path / "mlruns" / "artifacts"
    moved = artifacts.rename(tmp_path / "elsewhere")
    with pytest.raises(ReliabitError, match=f"{artifacts}, which is gone; if the project was moved") as caught:
        cells_of_sweep(tracker, parent)
    assert f"ln -s <project>/mlruns/artifacts {artifacts}" in str(caught.value)
    artifacts.symlink_to(moved)
    assert len(cells_of_sweep(tracker, parent)) == 2
