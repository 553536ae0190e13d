import json

import pytest

from registry.bundles import Judgement, accepting, refusing, register
from reliabit.errors import ReliabitError
from reliabit.registry import promotion
from reliabit.registry._lock import RegistryLock, registry_lock
from reliabit.registry.attempts import history_table
from reliabit.registry.history import history
from reliabit.registry.promotion import promote, record_decision, rollback
from reliabit.registry.versions import delete_version, find_alias, find_version
from tracking.stores import artifacts_of, tracker_at


@pytest.fixture
def versions(tracker, folder, name):
    return [register(tracker, folder, name=name, content=content) for content in ("a", "b", "c")]


@pytest.fixture
def promoted(tracker, versions, name):
    """All three, promoted one after the other."""
    return [promote(tracker, name, version.number, decide=accepting) for version in versions]


def champion(tracker, name) -> str | None:
    found = find_alias(tracker, name, "champion")
    return found.number if found else None


def outcomes(tracker, name) -> list[tuple[str, str | None, str | None, str]]:
    return [(one.action, one.version, one.previous, one.outcome) for one in history(tracker, name)]


def damage(tracker, version) -> None:
    root = tracker.client.get_model_version(version.name, version.number).source.removeprefix("file://")
    with open(f"{root}/artifacts/bundle/checkpoint/model.safetensors", "r+b") as file:  # noqa: PTH123
        file.seek(777)
        file.write(b"\x00")


def test_the_first_champion_is_decided_against_nobody(tracker, versions, name):
    met = []

    def decide(incumbent):
        met.append(incumbent)
        return Judgement(accepted=True, text="nothing is live yet")

    attempt = promote(tracker, name, "1", decide=decide)
    assert met == [None]
    assert champion(tracker, name) == "1"
    assert find_alias(tracker, name, "candidate").number == "1"
    assert (attempt.number, attempt.action, attempt.outcome) == (1, "promote", "accepted")
    assert (attempt.version, attempt.previous) == ("1", None)
    assert (attempt.source_run, attempt.fingerprint) == (versions[0].run_id, "fp-a")
    assert attempt.reason == "it passes all 2 rules"
    assert "@" in attempt.by
    assert history(tracker, name) == [attempt]


def test_an_attempt_is_a_run_that_anyone_can_read(tracker, versions, name, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret-value")
    attempt = promote(tracker, name, "1", decide=lambda _: Judgement(accepted=True, text="cheaper, says s3cret-value"))
    run = tracker.client.get_run(attempt.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"promote {name} 1")
    assert run.data.tags["kind"] == "promotion"
    artifacts = artifacts_of(run)
    document = json.loads(artifacts["decision.json"])
    assert document["outcome"] == "accepted"
    assert [reason["rule"] for reason in document["reasons"]] == ["finished", "objective"]
    assert artifacts["decision.md"].decode() == "# Decision\n\ncheaper, says [redacted]\n"
    assert attempt.by.startswith("ada@")
    tags = find_version(tracker, name, "1").tags
    assert tags["promotion.champion.previous"] == "none"
    assert (tags["promotion.champion.by"], tags["promotion.champion.at"]) == (attempt.by, attempt.at)
    assert tags["promotion.champion.reason"] == "it passes all 2 rules"
    assert "s3cret-value" not in str(run.data.tags) + str(artifacts)


def test_an_attempt_is_not_taken_for_the_run_that_it_is_about(tracker, versions, name):
    promote(tracker, name, "3", decide=accepting)
    assert tracker.find_finished("fp-c").data.tags["kind"] == "cell"


def test_a_refused_candidate_leaves_the_champion_and_its_reasons(tracker, promoted, name):
    met = []

    def decide(incumbent):
        met.append(incumbent)
        return refusing(incumbent)

    attempt = promote(tracker, name, "1", decide=decide)
    assert [incumbent.number for incumbent in met] == ["3"]
    assert (attempt.outcome, attempt.reason) == ("refused", "accuracy is lower by 7 points")
    assert champion(tracker, name) == "3"
    assert find_alias(tracker, name, "candidate").number == "1"
    assert find_version(tracker, name, "1").tags["promotion.champion.reason"] != attempt.reason
    assert "refused" in history_table(history(tracker, name)).splitlines()[-1]


def test_a_run_that_is_refused_before_it_is_a_version_is_in_the_history(tracker, promoted, name):
    attempt = record_decision(tracker, name, refusing(None), run_id="abc", fingerprint="fp-x")
    assert (attempt.number, attempt.outcome, attempt.version, attempt.previous) == (4, "refused", None, "3")
    assert (attempt.source_run, attempt.fingerprint) == ("abc", "fp-x")
    assert attempt.reason == "accuracy is lower by 7 points"
    assert history(tracker, name)[-1] == attempt
    assert rollback(tracker, name).version == "2"
    with pytest.raises(ValueError, match="accepts it"):
        record_decision(tracker, name, accepting(None), run_id="abc", fingerprint="fp-x")


def test_the_champion_itself_is_not_judged_again(tracker, promoted, name):
    attempt = promote(tracker, name, "3", decide=lambda _: pytest.fail("was asked"))
    assert (attempt.outcome, attempt.previous) == ("unchanged", "3")
    assert "is the champion already" in attempt.reason


@pytest.mark.parametrize(
    ("error", "status"), [(ReliabitError, "FAILED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_decision_that_cannot_be_made_is_on_record_and_frees_the_lock(tracker, versions, name, error, status):
    def decide(_):
        raise error("the predictions are missing")

    before = champion(tracker, name)
    with pytest.raises(error, match="the predictions are missing"):
        promote(tracker, name, "1", decide=decide)
    last = history(tracker, name)[-1]
    assert (last.outcome, last.reason) == ("failed", "the predictions are missing")
    assert tracker.client.get_run(last.run_id).info.status == status
    assert champion(tracker, name) == before
    with registry_lock(tracker.client, name, wait=0):
        pass


def test_a_damaged_candidate_is_refused_before_anything_changes(tracker, versions, name):
    damage(tracker, versions[1])
    with pytest.raises(ReliabitError, match=f"models:/{name}/2/checkpoint/model.safetensors differs"):
        promote(tracker, name, "2", decide=accepting)
    assert (champion(tracker, name), find_alias(tracker, name, "candidate")) == (None, None)


def test_a_version_that_is_not_there_is_refused(tracker, name):
    with pytest.raises(ReliabitError, match=f"there is no models:/{name}/9"):
        promote(tracker, name, "9", decide=accepting)


def test_rolling_back_twice_is_two_steps_back(tracker, promoted, name):
    first = rollback(tracker, name, reason="answers got worse")
    assert (first.action, first.outcome, first.version, first.previous) == ("rollback", "accepted", "2", "3")
    assert first.reason == "answers got worse"
    assert first.fingerprint == "fp-b"
    assert champion(tracker, name) == "2"
    assert rollback(tracker, name).version == "1"
    assert champion(tracker, name) == "1"
    with pytest.raises(ReliabitError, match=f"{name} has no earlier champion"):
        rollback(tracker, name)
    assert champion(tracker, name) == "1"
    last = history(tracker, name)[-1]
    assert (last.outcome, last.version) == ("refused", None)
    assert "no earlier champion" in last.reason


def test_after_a_rollback_a_promotion_starts_anew_from_there(tracker, promoted, name):
    rollback(tracker, name)
    rollback(tracker, name)
    assert promote(tracker, name, "3", decide=accepting).previous == "1"
    assert rollback(tracker, name).version == "1"


def test_rolling_back_to_a_version_skips_those_between_and_can_be_taken_back(tracker, promoted, name):
    assert rollback(tracker, name, to="1").version == "1"
    assert rollback(tracker, name, to="3").version == "3"
    assert rollback(tracker, name).version == "1"
    with pytest.raises(ReliabitError, match="/1 is the champion already"):
        rollback(tracker, name, to="1")


def test_rolling_back_to_what_never_was_champion_is_refused(tracker, versions, name):
    promote(tracker, name, "1", decide=accepting)
    promote(tracker, name, "2", decide=refusing)
    with pytest.raises(ReliabitError, match="/2 never was champion"):
        rollback(tracker, name, to="2")
    assert outcomes(tracker, name)[-1] == ("rollback", None, "1", "refused")


def test_a_deleted_version_is_refused_and_can_be_skipped(tracker, promoted, name):
    delete_version(tracker, name, "2")
    with pytest.raises(ReliabitError, match=f"there is no models:/{name}/2"):
        rollback(tracker, name)
    assert champion(tracker, name) == "3"
    assert rollback(tracker, name, to="1").version == "1"


def test_a_damaged_version_is_not_rolled_back_to(tracker, promoted, versions, name):
    damage(tracker, versions[1])
    with pytest.raises(ReliabitError, match="model.safetensors differs"):
        rollback(tracker, name)
    assert champion(tracker, name) == "3"
    assert outcomes(tracker, name)[-1] == ("rollback", "2", "3", "refused")


def test_an_alias_that_was_moved_by_hand_is_undone_first(tracker, promoted, name):
    tracker.client.set_registered_model_alias(name, "champion", "1")
    assert rollback(tracker, name).version == "3"
    assert rollback(tracker, name).version == "2"
    tracker.client.delete_registered_model_alias(name, "champion")
    assert rollback(tracker, name).version == "2"


def test_an_attempt_that_broke_off_after_the_alias_was_moved_counts(tracker, versions, name, monkeypatch):
    promote(tracker, name, "1", decide=accepting)
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "_tag_move", lambda *_: (_ for _ in ()).throw(OSError("the store is gone")))
        with pytest.raises(OSError, match="the store is gone"):
            promote(tracker, name, "2", decide=accepting)
    assert champion(tracker, name) == "2"
    assert rollback(tracker, name).version == "1"
    assert outcomes(tracker, name) == [
        ("promote", "1", None, "accepted"),
        ("promote", "2", "1", "accepted"),
        ("rollback", "1", "2", "accepted"),
    ]
    assert find_version(tracker, name, "2").tags["promotion.champion.previous"] == "1"


def test_a_rollback_that_broke_off_after_the_alias_was_moved_is_not_called_refused(
    tracker, promoted, name, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "_tag_move", lambda *_: (_ for _ in ()).throw(ReliabitError("the store is locked")))
        with pytest.raises(ReliabitError, match="the store is locked"):
            rollback(tracker, name)
    assert champion(tracker, name) == "2"
    assert rollback(tracker, name).version == "1"
    assert [one[3] for one in outcomes(tracker, name)] == ["accepted"] * 5


def test_an_attempt_that_broke_off_before_the_alias_was_moved_does_not_count(tracker, versions, name, monkeypatch):
    promote(tracker, name, "1", decide=accepting)
    with monkeypatch.context() as patched:
        patched.setattr(RegistryLock, "check", lambda _: (_ for _ in ()).throw(ReliabitError("it was taken over")))
        with pytest.raises(ReliabitError, match="taken over"):
            promote(tracker, name, "2", decide=accepting)
    assert champion(tracker, name) == "1"
    assert promote(tracker, name, "3", decide=accepting).previous == "1"
    assert [one[3] for one in outcomes(tracker, name)] == ["accepted", "failed", "accepted"]


def test_attempts_that_were_deleted_or_made_in_another_experiment_stay_in_the_history(tracker, folder, promoted, name):
    elsewhere = tracker_at(folder, experiment="another")
    tracker.client.delete_run(promoted[1].run_id)
    assert rollback(elsewhere, name).version == "2"
    assert outcomes(tracker, name) == outcomes(elsewhere, name)
    assert [attempt.number for attempt in history(tracker, name)] == [1, 2, 3, 4]
