"""Moving the champion: by a decision that is made against the present one, and back again.

Both are done under the registry's lock and recorded, whatever they come to; see `reliabit.registry.history`.
"""

from collections.abc import Callable, Sequence

from reliabit.errors import ReliabitError
from reliabit.registry._lock import WAIT_SECONDS, RegistryLock, registry_lock
from reliabit.registry.attempts import ACCEPTED, REFUSED, UNCHANGED, Attempt, champion_before
from reliabit.registry.decision import Decision
from reliabit.registry.history import (
    BEFORE_THE_LIST,
    FINGERPRINT,
    MOVED,
    OUTCOME,
    SOURCE_RUN,
    history,
    log_outcome,
    read_attempt,
    recorded,
    version_tags,
)
from reliabit.registry.pulling import verify_bundle
from reliabit.registry.versions import CANDIDATE, CHAMPION, Version, find_alias, find_version, registry_client
from reliabit.tracking.redaction import redact_values
from reliabit.tracking.tags import FAILURE_REASON
from reliabit.tracking.tracker import TrackedRun, Tracker

Decide = Callable[[Version | None], Decision]
"""A gate's decision against the champion, or against none."""

Verify = Callable[[Tracker, Version], None]
"""A check that a version's bundle can be had as it was registered; raises `ReliabitError`."""


def promote(
    tracker: Tracker,
    name: str,
    version: str,
    *,
    decide: Decide,
    verify: Verify = verify_bundle,
    wait: float = WAIT_SECONDS,
) -> Attempt:
    """Put a version forward as champion.

    The decision is made under the lock, so that the champion it is made against cannot change before it takes effect.

    Args:
        tracker: The store.
        name: The registered model.
        version: The version's number.
        decide: Called with the present champion; not called where that is the version itself.
        verify: Called first; fetches the whole bundle and checks it by default.
        wait: Seconds to wait for another promotion.

    Returns:
        The attempt as it is recorded: `accepted`, `refused`, or `unchanged` where what it serves is live already.

    Raises:
        ReliabitError: There is no such version, its bundle is damaged, or another promotion goes on for too long; and
            whatever `decide` raises, which is recorded as a failed attempt.
    """
    client = registry_client(tracker)
    candidate = find_version(tracker, name, version)
    verify(tracker, candidate)
    with registry_lock(client, name, wait=wait) as lock:
        # MLflow's store fails where two set one alias at once.
        client.set_registered_model_alias(name, CANDIDATE, candidate.number)
        champion, _ = _settled(tracker, name)
        with recorded(tracker, name, action="promote", version=candidate, previous=champion) as run:
            if champion is not None and champion.number == candidate.number:
                reason = f"{candidate.uri} is the {CHAMPION} already"
                log_outcome(run, outcome=UNCHANGED, reason=reason, document={"reasons": [reason]})
            else:
                decision = decide(champion)
                _log_decision(run, decision)
                if decision.verdict == ACCEPTED:
                    _move(tracker, run, lock, version=candidate)
        return read_attempt(tracker, run.run_id)


def record_decision(
    tracker: Tracker, name: str, decision: Decision, *, run_id: str, fingerprint: str, wait: float = WAIT_SECONDS
) -> Attempt:
    """Put on record why no version is made of a run: it was refused, or is live. The aliases stay as they are.

    Args:
        tracker: The store.
        name: The registered model.
        decision: The decision, which does not accept it.
        run_id: The run.
        fingerprint: Its fingerprint.
        wait: Seconds to wait for a promotion that is under way.

    Raises:
        ReliabitError: Another promotion goes on for too long.
    """
    if decision.verdict == ACCEPTED:
        raise ValueError("the decision accepts it; register a version and promote that")
    with registry_lock(registry_client(tracker), name, wait=wait):
        champion, _ = _settled(tracker, name)
        live = champion if decision.verdict == UNCHANGED else None
        with recorded(tracker, name, action="promote", version=live, previous=champion) as run:
            run.set_tags({SOURCE_RUN: run_id, FINGERPRINT: fingerprint})
            _log_decision(run, decision)
        return read_attempt(tracker, run.run_id)


def rollback(
    tracker: Tracker,
    name: str,
    *,
    to: str | None = None,
    reason: str = "",
    verify: Verify = verify_bundle,
    wait: float = WAIT_SECONDS,
) -> Attempt:
    """Give the alias back to an earlier champion.

    Without `to`, that is the one below the present champion in `undo_stack`: rolling back twice is two steps back.

    Args:
        tracker: The store.
        name: The registered model.
        to: Another version that was champion before.
        reason: Why, in the words of whoever does it.
        verify: Called with the version before it becomes champion.
        wait: Seconds to wait for a promotion that is under way.

    Returns:
        The attempt as it is recorded.

    Raises:
        ReliabitError: There is no earlier champion, `to` never was one, or the version was deleted or its bundle is
            damaged. This is recorded as a refused attempt.
    """
    client = registry_client(tracker)
    with registry_lock(client, name, wait=wait) as lock:
        champion, past = _settled(tracker, name)
        refusal = None
        with recorded(tracker, name, action="rollback", version=None, previous=champion) as run:
            try:
                target = _earlier(tracker, name, past=past, champion=champion, to=to)
                run.set_tags(version_tags(target))
                verify(tracker, target)
            except ReliabitError as error:
                refusal = error
                log_outcome(run, outcome=REFUSED, reason=str(error), document={"reasons": [str(error)]})
            else:
                told = reason or (f"rolled back to {target.uri}" if to else "rolled back to the champion before")
                log_outcome(run, outcome=ACCEPTED, reason=told, document={"reasons": [told]})
                _move(tracker, run, lock, version=target)
        if refusal is not None:
            raise refusal
        return read_attempt(tracker, run.run_id)


def _settled(tracker: Tracker, name: str) -> tuple[Version | None, list[Attempt]]:
    """The present champion and the history, with the last attempt closed if its process died; call under the lock.

    Whoever holds the lock is alone, so a last attempt that is not finished never will be. It may have moved the alias
    or not, and the alias says which: only then does it count as accepted.
    """
    champion, past = find_alias(tracker, name, CHAMPION), history(tracker, name)
    if not past or past[-1].number == BEFORE_THE_LIST:
        return champion, past
    last = tracker.client.get_run(past[-1].run_id)
    if last.info.status == "FINISHED":
        return champion, past
    moved = champion is not None and champion.number == past[-1].version != past[-1].previous
    if moved and champion is not None and last.data.tags.get(OUTCOME) == ACCEPTED:
        tracker.client.set_terminated(last.info.run_id, "FINISHED")
        _tag_move(tracker, champion, read_attempt(tracker, last.info.run_id))
    elif last.info.status == "RUNNING":
        tracker.client.set_tag(last.info.run_id, FAILURE_REASON, "its process ended before the alias was moved")
        tracker.client.set_terminated(last.info.run_id, "KILLED")
    else:
        return champion, past
    return champion, history(tracker, name)


def _move(tracker: Tracker, run: TrackedRun, lock: RegistryLock, *, version: Version) -> None:
    """Make a version the champion, and say so on it."""
    lock.check()
    tracker.client.set_registered_model_alias(version.name, CHAMPION, version.number)
    _tag_move(tracker, version, read_attempt(tracker, run.run_id))


def _tag_move(tracker: Tracker, version: Version, attempt: Attempt) -> None:
    tags = {
        "previous": attempt.previous or "none",
        "at": attempt.at,
        "by": attempt.by,
        "reason": attempt.reason,
    }
    for key, value in redact_values(tags).items():
        tracker.client.set_model_version_tag(version.name, version.number, f"{MOVED}{key}", value)


def _earlier(
    tracker: Tracker, name: str, *, past: Sequence[Attempt], champion: Version | None, to: str | None
) -> Version:
    """The version that a rollback goes to."""
    present = champion.number if champion else None
    if to is not None:
        once = {
            number for attempt in past if attempt.outcome == ACCEPTED for number in (attempt.version, attempt.previous)
        }
        if to == present:
            raise ReliabitError(f"models:/{name}/{to} is the {CHAMPION} already; name another version")
        if to not in once:
            raise ReliabitError(f"models:/{name}/{to} never was {CHAMPION}; promote it, or see: reliabit history")
        return find_version(tracker, name, to)
    before = champion_before(past, champion=present)
    if before is None:
        raise ReliabitError(f"{name} has no earlier {CHAMPION} to go back to; see: reliabit history")
    return find_version(tracker, name, before)


def _log_decision(run: TrackedRun, decision: Decision) -> None:
    document = decision.to_dict()
    texts = [" ".join(reason["text"].split()).rstrip(".") for reason in document["reasons"] if not reason["passed"]]
    passed = f"it passes all {len(document['reasons'])} rules"
    log_outcome(
        run,
        outcome=decision.verdict,
        # What decided: the rules that failed, or how many there were to pass.
        reason=passed if decision.verdict == ACCEPTED else "; ".join(texts),
        document=document,
        markdown=decision.markdown(),
    )
