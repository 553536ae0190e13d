"""How far a long step is: a bar that moves while people look on, a line now and then where nobody does.

Each says what it is. A bar also moves where nothing is counted yet, so that whoever looks knows that work goes on; what
took a while leaves one line behind. Processes that others started write lines, as several bars in one place cannot be
read.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import parent_process
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")

EVERY = 15.0
"""Seconds between two lines, where nobody looks on."""

WORTH_A_LINE = 2.0
"""Seconds that a step took that leaves a line behind."""


@dataclass
class _Shared:
    """The one display of this process, and how many steps are shown in it."""

    lock: Any = field(default_factory=RLock)
    display: "Progress | None" = None
    steps: int = 0


_shared = _Shared()


class Step:
    """A long step; counts what is done of it. See `step`."""

    def __init__(self, title: str, *, total: int | None = None, unit: str = "", shown: bool = True) -> None:
        self.title, self.total, self.unit, self.shown, self.done = title, total, unit, shown, 0
        self.started = self._told = time.monotonic()
        self._display: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, count: int = 1) -> None:
        """Count what was done since."""
        self.done += count
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=self.done, counted=self.counted())
        elif self.shown and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            _write_line(f"{self.title}: {self.counted()}")

    def counted(self) -> str:
        """How far it is, in words.

        >>> Step("answering", total=1200, unit="questions").counted(), Step("training").counted()
        ('0 of 1,200 questions', '')
        """
        if self.total is None:
            return f"{self.done:,} {self.unit}".strip() if self.done else ""
        return f"{self.done:,} of {self.total:,} {self.unit}".strip()

    def show(self, display: "Progress") -> None:
        """Show it as a bar."""
        self._display, self._task = display, display.add_task(self.title, total=self.total, counted=self.counted())

    def close(self) -> None:
        """End it; one that took a while says what was done."""
        if self._display is not None and self._task is not None:
            self._display.remove_task(self._task)
        seconds = time.monotonic() - self.started
        if seconds >= WORTH_A_LINE:
            counted = f"{self.done:,} {self.unit}, ".replace(" ,", ",") if self.done else ""
            _write_line(f"{self.title}: {counted}{seconds:.0f} s")


@contextmanager
def step(title: str, *, total: int | None = None, unit: str = "", shown: bool = True) -> Iterator[Step]:
    """Show how far a step is for as long as a block runs.

    Args:
        title: What is done, such as `answering`.
        total: How much there is to do; where it is not known, the time that passes is shown.
        unit: What is counted, in the plural.
        shown: Whether to show anything; `trainer.progress_bar`, where that is known.
    """
    found = Step(title, total=total, unit=unit, shown=shown)
    if not shown:
        yield found
        return
    with _shared_display() as display:
        if display is not None:
            found.show(display)
        try:
            yield found
        finally:
            found.close()


def counted(items: Iterable[Item], title: str, *, total: int | None = None, unit: str = "") -> Iterator[Item]:
    """Give items one by one, and show how far that is; see `step`."""
    with step(title, total=total, unit=unit) as found:
        for item in items:
            yield item
            found.advance()


@contextmanager
def _shared_display() -> "Iterator[Progress | None]":
    """The display of this process, shown as long as a step of it is; none where no person looks on."""
    if not sys.stderr.isatty() or parent_process() is not None:
        yield None
        return
    with _shared.lock:
        if _shared.display is None:
            _shared.display = _bars()
            _shared.display.start()
        _shared.steps += 1
        display = _shared.display
    try:
        yield display
    finally:
        with _shared.lock:
            _shared.steps -= 1
            if _shared.steps == 0:
                display.stop()
                _shared.display = None


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[counted]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, highlight=False),
        transient=True,
        # What goes to a file is not to be shown instead.
        redirect_stdout=sys.stdout.isatty(),
        refresh_per_second=4,
    )


def _write_line(text: str) -> None:
    """A line of its own, above what is shown of other steps."""
    display = _shared.display
    if display is None:
        sys.stderr.write(f"{text}\n")
    else:
        display.console.print(text, markup=False, highlight=False)
