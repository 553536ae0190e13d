"""The alias of the champion: which version it names, once nothing is left half done, and moving it."""

from reliabit.registry.attempts import ACCEPTED, Attempt
from reliabit.registry.history import BEFORE_THE_LIST, MOVED, OUTCOME, history, read_attempt
from reliabit.registry.lock import Held
from reliabit.registry.versions import CHAMPION, Version, find_alias
from reliabit.tracking.redaction import redact_values
from reliabit.tracking.tracker import TrackedRun, Tracker


def settled_champion(tracker: Tracker, name: str) -> Version | None:
    """The present champion, with the last attempt closed if its process died; call under the lock.

    Whoever holds the lock is alone, so a last attempt that is not finished never will be. It may have moved the alias
    or not, and the alias says which: only then does it count as accepted.
    """
    champion = find_alias(tracker, name, CHAMPION)
    past = history(tracker, name)
    if not past or past[-1].number == BEFORE_THE_LIST:
        return champion
    last = tracker.client.get_run(past[-1].run_id)
    if last.info.status == "FINISHED":
        return champion
    moved = champion is not None and champion.number == past[-1].version != past[-1].previous
    if moved and champion is not None and last.data.tags.get(OUTCOME) == ACCEPTED:
        tracker.client.set_terminated(last.info.run_id, "FINISHED")
        _tag(tracker, champion, read_attempt(tracker, last.info.run_id))
    elif last.info.status == "RUNNING":
        tracker.client.set_tag(last.info.run_id, "failure.reason", "its process ended before the alias was moved")
        tracker.client.set_terminated(last.info.run_id, "KILLED")
    return champion


def move_champion(tracker: Tracker, run: TrackedRun, lock: Held, *, version: Version) -> None:
    """Make a version the champion, and say so on it."""
    lock.check()
    tracker.client.set_registered_model_alias(version.name, CHAMPION, version.number)
    _tag(tracker, version, read_attempt(tracker, run.run_id))


def _tag(tracker: Tracker, version: Version, attempt: Attempt) -> None:
    tags = {
        "previous": attempt.previous or "none",
        "at": attempt.at,
        "by": attempt.by,
        "reason": attempt.reason,
    }
    for key, value in redact_values(tags).items():
        tracker.client.set_model_version_tag(version.name, version.number, f"{MOVED}{key}", value)
