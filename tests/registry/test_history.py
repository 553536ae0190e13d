from hypothesis import given
from hypothesis import strategies as st

from reliabit.registry.attempts import Attempt, champion_before, history_table, show_attempts, undo_stack

VERSIONS = st.sampled_from("123")
STEPS = st.lists(
    st.one_of(st.tuples(st.sampled_from(["promote", "refuse", "by hand"]), VERSIONS), st.just(("back", "")))
)


def attempt(action, version, previous, *, outcome="accepted", number=1, reason=""):
    return Attempt(
        number=number,
        action=action,
        outcome=outcome,
        version=version,
        previous=previous,
        by="me@here",
        at="2026-01-02T03:04:05+00:00",
        reason=reason,
        run_id="r",
        source_run=None,
        fingerprint=None,
    )


class Node:
    """A champion that remembers the one it replaced: the same meaning as the stack, by another structure."""

    def __init__(self, version, below):
        self.version, self.below = version, below


@given(STEPS)
def test_rolling_back_follows_the_champions_that_were_replaced(steps):
    top, recorded, champion = None, [], None
    for action, version in steps:
        if action == "by hand" and champion is not None:
            champion = version
        elif action == "refuse":
            recorded.append(attempt("promote", version, champion, outcome="refused"))
        elif action == "promote" and version != champion:
            recorded.append(attempt("promote", version, champion))
            # Of several moves by hand in a row, the last alone was ever seen.
            top = Node(version, top if top is None or top.version == champion else Node(champion, top))
            champion = version
        elif action == "back" and top is not None:
            node = top.below if top.version == champion else top
            target = champion_before(recorded, champion=champion)
            assert target == (node.version if node else None)
            if node is not None:
                recorded.append(attempt("rollback", target, champion))
                top, champion = node, target
    assert undo_stack(recorded) == champions_down_to(top)


def champions_down_to(node):
    return [] if node is None else [*champions_down_to(node.below), node.version]


def test_one_that_was_rolled_back_from_can_be_returned_to_and_left_again():
    past = [attempt("promote", "1", None), attempt("promote", "2", "1"), attempt("rollback", "1", "2")]
    assert undo_stack(past) == ["1"]
    again = [*past, attempt("rollback", "2", "1")]
    assert undo_stack(again) == ["1", "2"]
    assert undo_stack([*again, attempt("rollback", "1", "2")]) == ["1"]


def test_going_back_over_several_takes_them_all_off():
    past = [attempt("promote", str(n), str(n - 1) if n > 1 else None) for n in range(1, 6)]
    assert undo_stack([*past, attempt("rollback", "2", "5")]) == ["1", "2"]


def test_refused_failed_and_unchanged_attempts_move_nothing():
    past = [attempt("promote", "1", None)]
    others = [attempt("promote", "2", "1", outcome=outcome) for outcome in ("refused", "failed", "running")]
    nowhere = attempt("rollback", None, "1", outcome="refused")
    assert undo_stack([*past, *others, nowhere, attempt("promote", "1", "1", outcome="unchanged")]) == ["1"]


def test_the_table_keeps_to_its_columns_and_one_line_an_attempt():
    lines = history_table(
        [
            attempt("promote", "12", None, number=9, reason="smaller\nby 3 %"),
            attempt("rollback", None, "12", number=10, outcome="refused"),
        ]
    ).splitlines()
    assert len(lines) == 3
    starts = [lines[0].index(word) for word in ("what", "version", "outcome", "by")]
    assert [[line[start:].split()[0] for start in starts] for line in lines[1:]] == [
        ["promote", "12", "accepted", "me@here"],
        ["rollback", "-", "refused", "me@here"],
    ]
    assert lines[1].endswith("smaller by 3 %")


def test_an_empty_history_is_a_heading():
    assert history_table([]).startswith("#  when (UTC)")
    assert undo_stack([]) == []


def test_the_table_suits_the_terminal_and_reasons_are_broken_and_not_cut(monkeypatch, capsys):
    reason = "resident MiB 5.06 after 6.35: an improvement, and no slice loses more than it may; " * 3
    at = "2026-01-02T03:04:05+00:00"
    attempts = [Attempt(1, "promote", "accepted", "2", None, "me@here", at, reason, "", None, None)]
    monkeypatch.setattr("reliabit.terminal.is_terminal", lambda: True)
    for width, shown in ((60, False), (80, True), (160, True)):
        monkeypatch.setenv("COLUMNS", str(width))
        show_attempts(attempts)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert ("2026-01-02 03:04:05" in " ".join(lines)) == shown
        text = " ".join(lines)
        assert all(word in text for word in reason.split())


def test_a_pipe_gets_one_line_an_attempt(capsys):
    at = "2026-01-02T03:04:05+00:00"
    attempts = [Attempt(1, "promote", "accepted", "2", None, "me@here", at, "why " * 90, "", None, None)]
    show_attempts(attempts)
    assert capsys.readouterr().out == history_table(attempts)
