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
    from rich.progress import Progress, Task, TaskID

Item = TypeVar("Item")

MILLION = 10**6
MANY = 10 * MILLION
"""What is counted in millions."""

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

    def __init__(
        self, title: str, *, total: int | None = None, unit: str = "", shown: bool = True, part: bool = False
    ) -> None:
        self.title, self.total, self.unit, self.shown, self.part, self.done = title, total, unit, shown, part, 0
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
        if self.total >= MANY:
            return f"{self.done / MILLION:,.0f} of {self.total / MILLION:,.0f} million {self.unit}".strip()
        return f"{self.done:,} of {self.total:,} {self.unit}".strip()

    def show(self, display: "Progress") -> None:
        """Show it as a bar."""
        self._display, self._task = display, display.add_task(self.title, total=self.total, counted=self.counted())

    def close(self) -> None:
        """End it; one that took a while says how much was done."""
        if self._display is not None and self._task is not None:
            self._display.remove_task(self._task)
        seconds = time.monotonic() - self.started
        # Where nobody looks on, what was never told of needs no end.
        if self.done and not self.part and (seconds >= WORTH_A_LINE if self._display else self._told > self.started):
            _write_line(f"{self.title}: {self.counted()}, {seconds:.0f} s")


@contextmanager
def step(
    title: str, *, total: int | None = None, unit: str = "", shown: bool = True, part: bool = False
) -> Iterator[Step]:
    """Show how far a step is for as long as a block runs.

    Args:
        title: What is done, such as `answering`.
        total: How much there is to do; where it is not known, the time that passes is shown.
        unit: What is counted, in the plural.
        shown: Whether to show anything; `trainer.progress_bar`, where that is known.
        part: Whether it is a part of another step, which says how much was done in the end.
    """
    found = Step(title, total=total, unit=unit, shown=shown, part=part)
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


def is_watched() -> bool:
    """Whether people look on, so that bars are shown and not lines."""
    return sys.stderr.isatty() and parent_process() is None


@contextmanager
def _shared_display() -> "Iterator[Progress | None]":
    """The display of this process, shown as long as a step of it is; none where no person looks on."""
    if not is_watched():
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
    from rich.text import Text

    class Bar(BarColumn):
        """A bar for what is counted; of other steps the time that passes says enough."""

        def render(self, task: "Task") -> Any:
            return Text() if task.total is None else super().render(task)

    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        Bar(bar_width=20),
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
