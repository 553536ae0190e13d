"""Progress: lines where nobody looks on, at most one in a while, and a bar that says what it is where somebody does."""

import io

import pytest

from reliabit import progress
from reliabit.progress import counted, step


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def test_lines_are_sparse_where_nobody_looks_on(clock, capsys):
    with step("answering", total=1200, unit="questions") as found:
        for _ in range(12):
            found.advance(100)
            clock.now += 4
    assert capsys.readouterr().err.splitlines() == [
        "answering: 500 of 1,200 questions",
        "answering: 900 of 1,200 questions",
        "answering: 1,200 of 1,200 questions, 48 s",
    ]


def test_what_takes_no_time_is_not_told(clock, capsys):
    assert list(counted("abc", "certifying", total=3, unit="cells")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_step_that_is_not_to_be_shown_is_not(clock, capsys):
    with step("answering", total=2, unit="questions", shown=False) as found:
        clock.now += 60
        found.advance(2)
    assert capsys.readouterr().err == ""


def test_a_bar_says_what_it_is_and_how_far_and_is_gone_with_what_ends_it(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    def cut_off():
        with step("answering", total=1200, unit="questions") as found, step("loading the model"):
            found.advance(300)
            progress._shared.display.refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    shown = screen.getvalue()
    assert "answering" in shown
    assert "300 of 1,200 questions" in shown
    assert "loading the model" in shown
    assert progress._shared.display is None
