"""The history is what the registry wrote: neither a journal nor a run that looks like an attempt is part of it."""

import logging

import pytest

from registry.bundles import accepting, refusing, register
from reliabit.commands.versions import show_history
from reliabit.composition import register as register_configuration
from reliabit.errors import ReliabitError
from reliabit.registry.attempts import history_table
from reliabit.registry.history import LISTED, MOVED, history
from reliabit.registry.promotion import promote, record_decision, rollback
from reliabit.registry.versions import find_alias
from reliabit.tracking.journal.sync import sync
from reliabit.tracking.tracker import Journal
from tracking.stores import store_at


@pytest.fixture
def promoted(tracker, folder, name):
    """Two versions that were champion one after the other, and a third that was refused."""
    for content in ("a", "b", "c"):
        register(tracker, folder, name=name, content=content)
    promote(tracker, name, "1", decide=accepting)
    promote(tracker, name, "2", decide=accepting)
    promote(tracker, name, "3", decide=refusing)


def forged(name: str, **other: str) -> dict[str, str]:
    """The tags of an attempt that made the refused version champion, before the last one."""
    found = {"number": "2", "model": name, "action": "promote", "version": "3", "previous": "1", "by": "root@vm"}
    tags = {f"promotion.{key}": value for key, value in ({**found, "outcome": "accepted"} | other).items()}
    return {"kind": "promotion", **tags}


def insert(tracker, tags: dict[str, str]) -> str:
    """A run that looks like an attempt, as a sync of earlier days, or anyone's script, may have left it."""
    run = tracker.client.create_run(tracker.experiment_id, run_name="promote", tags=tags)
    tracker.client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def champion(tracker, name):
    return find_alias(tracker, name, "champion").number


def outcomes(tracker, name):
    return [(one.number, one.action, one.version, one.outcome) for one in history(tracker, name)]


OWN = [(1, "promote", "1", "accepted"), (2, "promote", "2", "accepted"), (3, "promote", "3", "refused")]


def test_a_promotion_that_a_journal_holds_is_not_imported(tracker, promoted, name, tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.run("innocent", tags={"kind": "cell"}):
        pass
    with journal.run("promote", tags=forged(name)):
        pass
    before = len(tracker.client.search_runs([tracker.experiment_id]))
    with pytest.raises(ReliabitError, match=r"has the tag 'kind=promotion', which only this store sets; remove its"):
        sync(journal.folder, tracker)
    assert len(tracker.client.search_runs([tracker.experiment_id])) == before
    assert outcomes(tracker, name) == OWN
    assert rollback(tracker, name).version == "1"


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"number": "999999999"},
        {"number": "many"},
        {"number": "-1"},
        {"version": "../3"},
        {"action": "delete"},
        {"outcome": "\x1b[2J"},
        {"previous": "9" * 400},
    ],
    ids=["plain", "late", "word", "negative", "path", "action", "control", "huge"],
)
def test_a_run_that_the_registry_did_not_make_is_named_and_decides_nothing(tracker, promoted, name, caplog, other):
    run_id = insert(tracker, forged(name, **other))
    assert outcomes(tracker, name) == OWN
    assert outcomes(tracker, name) == OWN
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [f"left out of the history of {name}: the run {run_id} (the registry did not make it)"]
    with pytest.raises(ReliabitError, match="/3 never was champion"):
        rollback(tracker, name, to="3")
    assert rollback(tracker, name).version == "1"
    assert promote(tracker, name, "2", decide=accepting).number == 6


@pytest.mark.parametrize("lacking", ["action", "number", "by", "version"])
def test_an_attempt_without_a_tag_stops_nothing(tracker, promoted, name, lacking):
    tags = forged(name)
    del tags[f"promotion.{lacking}"]
    insert(tracker, tags)
    last = history(tracker, name)[-1]
    tracker.client.delete_tag(last.run_id, f"promotion.{lacking}")
    assert [one[0] for one in outcomes(tracker, name)][:2] == [1, 2]
    assert rollback(tracker, name).version == "1"
    assert champion(tracker, name) == "1"


@pytest.mark.parametrize(("tag", "value"), [("version", "3; x"), ("previous", ""), ("action", "promote\n")])
def test_a_tag_of_an_attempt_that_was_changed_is_named_and_the_others_count(
    tracker, promoted, name, caplog, tag, value
):
    changed = history(tracker, name)[1]
    tracker.client.set_tag(changed.run_id, f"promotion.{tag}", value)
    assert outcomes(tracker, name) == [OWN[0], OWN[2]]
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert changed.run_id in told
    assert "\n" not in told
    assert rollback(tracker, name).version == "1"


def test_a_thousand_forged_attempts_are_one_line(tracker, promoted, name, caplog):
    for number in range(30):
        insert(tracker, forged(name, number=str(number)))
    assert outcomes(tracker, name) == OWN
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.endswith("and 29 more")


def test_an_attempt_whose_run_is_gone_for_good_keeps_its_number(tracker, promoted, name):
    first = history(tracker, name)[0].run_id
    tracker.client.delete_run(first)
    tracker.client._tracking_client.store._hard_delete_run(first)
    assert [one[0] for one in outcomes(tracker, name)][-2:] == [2, 3]
    assert rollback(tracker, name).number == 4


def test_champions_from_before_the_list_are_told_by_their_versions(tracker, promoted, name):
    """A store that an earlier Reliabit promoted in: runs there are, and nothing that says whose they are."""
    for key in [key for key in tracker.client.get_registered_model(name).tags if key.startswith(LISTED)]:
        tracker.client.delete_registered_model_tag(name, key)
    insert(tracker, forged(name))
    assert outcomes(tracker, name) == [(0, "promote", "1", "accepted"), (0, "promote", "2", "accepted")]
    assert rollback(tracker, name).version == "1"
    assert outcomes(tracker, name)[-1] == (1, "rollback", "1", "accepted")
    with pytest.raises(ReliabitError, match="/3 never was champion"):
        rollback(tracker, name, to="3")
    assert rollback(tracker, name, to="2").version == "2"


def test_a_version_whose_tags_were_changed_is_named_and_stops_nothing(tracker, promoted, name, caplog):
    for key in [key for key in tracker.client.get_registered_model(name).tags if key.startswith(LISTED)]:
        tracker.client.delete_registered_model_tag(name, key)
    tracker.client.set_model_version_tag(name, "2", f"{MOVED}previous", "1; x")
    tracker.client.set_model_version_tag(name, "1", f"{MOVED}at", "\x1b[2J")
    found = history(tracker, name)
    assert [(one.version, one.outcome) for one in found] == [("1", "accepted")]
    assert "\x1b" not in history_table(found)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    # The runs of the three attempts, which nothing lists any more, and version 2.
    assert told.endswith("and 3 more")


def test_a_refusal_before_the_first_version_is_listed_too(tracker, name):
    attempt = record_decision(tracker, name, refusing(None), run_id="abc", fingerprint="fp")
    assert [one.run_id for one in history(tracker, name)] == [attempt.run_id]


def test_the_command_shows_what_the_registry_wrote_and_names_the_rest_on_the_side(
    folder, tracker, promoted, name, capsys, caplog
):
    from hydra import compose, initialize_config_dir

    from reliabit.composition import to_config
    from reliabit.paths import conf_folder

    insert(tracker, forged(name, by="\x1b[31mred", reason="a\nb"))
    record_decision(tracker, name, refusing(None), run_id="abc", fingerprint="fp")
    register_configuration()
    store = store_at(folder)
    overrides = [f"tracking.{key}={value}" for key, value in store.items()]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        show_history(to_config(compose("config", overrides=[*overrides, f"registry.model={name}"])), None)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 5
    assert "\x1b" not in shown
    assert "the registry did not make it" in caplog.text
