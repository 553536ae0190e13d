"""Attempts to change the champion, and what follows from them: where rolling back leads, and a table to read."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

ACCEPTED, REFUSED, UNCHANGED, FAILED, RUNNING = "accepted", "refused", "unchanged", "failed", "running"
OUTCOMES = (ACCEPTED, REFUSED, UNCHANGED, FAILED, RUNNING)
"""`unchanged` is a promotion of what is live already; `failed` one that ended before the alias was moved."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to change the champion.

    Attributes:
        number: Its place among the attempts at this model, from 1; 0 for one that only the version tells of.
        action: `promote` or `rollback`.
        outcome: One of `OUTCOMES`.
        version: The version that was to become champion; `None` for a rollback that had nowhere to go.
        previous: The champion that it found.
        by: Who made it, `user@host`, as the process says of itself.
        at: When, in ISO 8601 and UTC.
        reason: Why it had that outcome.
        run_id: The run that records it, with `decision.json` and `decision.md`.
        source_run: The run that measured the version.
        fingerprint: That run's fingerprint.
    """

    number: int
    action: str
    outcome: str
    version: str | None
    previous: str | None
    by: str
    at: str
    reason: str
    run_id: str
    source_run: str | None
    fingerprint: str | None


def undo_stack(attempts: Sequence[Attempt]) -> list[str]:
    """The champions that rolling back step by step leads through, the present one last.

    A promotion puts its version on top. A rollback takes off what lies above the version it went to, so that rolling
    back twice is two steps back; one to a version that had been rolled back from puts it on top again. An alias that
    was moved by other means shows as the champion that the next accepted attempt found, and counts as a promotion.

    Args:
        attempts: All attempts, oldest first.

    Example:
        >>> def attempt(action, version, previous):
        ...     return Attempt(0, action, "accepted", version, previous, "", "", "", "", None, None)
        >>> promotions = [attempt("promote", "1", None), attempt("promote", "2", "1"), attempt("promote", "3", "2")]
        >>> undo_stack(promotions)
        ['1', '2', '3']
        >>> undo_stack([*promotions, attempt("rollback", "2", "3")])
        ['1', '2']
    """
    stack: list[str] = []
    for attempt in attempts:
        if attempt.outcome != ACCEPTED or attempt.version is None:
            continue
        if attempt.previous is not None and stack[-1:] != [attempt.previous]:
            stack.append(attempt.previous)
        if attempt.action == "rollback" and attempt.version in stack:
            while stack[-1] != attempt.version:
                stack.pop()
        else:
            stack.append(attempt.version)
    return stack


def champion_before(attempts: Sequence[Attempt], *, champion: str | None) -> str | None:
    """The version that rolling back goes to, if there is one.

    Args:
        attempts: All attempts, oldest first.
        champion: The present champion. Where the alias was moved by other means since the last accepted attempt, or
            removed, rolling back undoes that.

    Example:
        >>> one = Attempt(1, "promote", "accepted", "1", None, "", "", "", "", None, None)
        >>> two = Attempt(2, "promote", "accepted", "2", "1", "", "", "", "", None, None)
        >>> champion_before([one, two], champion="2"), champion_before([one, two], champion="7")
        ('1', '2')
        >>> champion_before([one], champion="1") is None
        True
    """
    stack = undo_stack(attempts)
    if stack and stack[-1] == champion:
        stack.pop()
    return stack[-1] if stack else None


_HEADINGS = ("#", "when (UTC)", "what", "version", "before", "outcome", "by", "why")


def history_table(attempts: Sequence[Attempt]) -> str:
    """A table to read in a terminal, one line an attempt.

    Example:
        >>> when, why = "2026-01-02T03:04:05+00:00", "smaller"
        >>> one = Attempt(1, "promote", "accepted", "2", None, "me@here", when, why, "", None, None)
        >>> print(history_table([one]), end="")
        #  when (UTC)           what     version  before  outcome   by       why
        1  2026-01-02 03:04:05  promote  2        -       accepted  me@here  smaller
    """
    lines = [_HEADINGS, *(_cells(attempt) for attempt in attempts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def show_attempts(attempts: Sequence[Attempt]) -> None:
    """Print the table, in a terminal with what there is room for; the reasons are broken into lines."""
    from reliabit.terminal import Column, is_terminal, show_table

    if not is_terminal():
        sys.stdout.write(history_table(attempts))
        return
    rows = [_cells(attempt) for attempt in attempts]
    # Who it was comes last: the reason says more.
    priorities = {"by": 3, "before": 2, "when (UTC)": 1}
    show_table(
        [
            Column(heading, [row[number] for row in rows], priority=priorities.get(heading, 0), left=True)
            for number, heading in enumerate(_HEADINGS)
        ]
    )


def _cells(attempt: Attempt) -> tuple[str, ...]:
    return (
        str(attempt.number or "-"),
        _printable(attempt.at[:19].replace("T", " ")),
        attempt.action,
        attempt.version or "-",
        attempt.previous or "-",
        attempt.outcome,
        _printable(attempt.by),
        _printable(attempt.reason),
    )


def _printable(text: str) -> str:
    r"""A text on one line that leaves a terminal as it is.

    >>> _printable("smaller\nby \x1b[31m3 %")
    'smaller by ?[31m3 %'
    """
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
