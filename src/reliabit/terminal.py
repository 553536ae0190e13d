"""What is printed for people: results, tables that suit the width of the terminal, and Markdown as it is meant to look.

In a terminal tables show as many columns as fit, the most wanted first, and nothing is cut; in a pipe or a file they
show all, without escape codes. How far something is says `reliabit.progress`.
"""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Fact: TypeAlias = tuple[str, str]
"""What something is, and what it comes to."""

WHOLE = 100_000
"""The width of what has none: a file or a pipe takes any line."""

_BETWEEN = "   "
"""What stands between two columns."""

_NARROWEST = 12
"""The least width that a text is broken to."""

_READABLE = 22
"""The width that a text of several lines is broken to at least, where there is room for it."""

_TABLE = re.compile(r"(?:^\|.*\|[ \t]*(?:\n|\Z)){2,}", re.MULTILINE)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: What it shows, with the unit; it may be broken at its spaces.
        cells: One text a row; lines after its first are shown faintly.
        priority: Columns of a lower number are shown in narrower terminals; those of 0 always.
        left: Whether it is text, which begins at the left; numbers end at the right.
    """

    heading: str
    cells: Sequence[str]
    priority: int = 0
    left: bool = False


def console(file: "IO[str] | None" = None) -> "Console":
    """Where results are printed: standard output, or a file; as wide as the terminal, or as `COLUMNS` says."""
    from rich.console import Console

    found = Console(file=file, markup=False, highlight=False, emoji=False)
    if not found.is_terminal and "COLUMNS" not in found._environ:
        found.width = WHOLE
    return found


def is_terminal(file: "IO[str] | None" = None) -> bool:
    """Whether people look at standard output, or at a file, as it is written."""
    return console(file).is_terminal


def fitting(columns: Sequence[Column], *, width: int) -> list[Column]:
    """The columns that a width has room for, in their order: by priority, as many as fit; at least those of 0.

    >>> name, size = Column("name", ["hqq 4"], left=True), Column("size", ["1" * 30], priority=1)
    >>> [column.heading for column in fitting([name, size], width=30)]
    ['name']
    """
    kept = [column for column in columns if column.priority == 0]
    for column in sorted((one for one in columns if one.priority), key=lambda one: one.priority):
        more = [one for one in columns if one in (*kept, column)]
        if _least_width(more) > width:
            break
        kept = more
    return kept


def width_of(columns: Sequence[Column], *, broken: bool = True) -> int:
    """How many characters a table takes.

    Args:
        columns: Its columns.
        broken: Whether headings are broken at their spaces, as far as that makes it narrower.
    """
    return sum(_width(column, broken=broken) for column in columns) + len(_BETWEEN) * (len(columns) - 1)


def show_table(columns: Sequence[Column], *, title: str = "", whole: str = "", file: "IO[str] | None" = None) -> None:
    """Print a table with the columns that there is room for.

    Args:
        columns: All columns.
        title: What stands above it, such as what all rows share.
        whole: Where all columns are, for whoever misses some.
        file: Where to print it; standard output by default.
    """
    place = console(file)
    kept = fitting(columns, width=place.width)
    if title:
        place.print(title, style="bold")
    with place.capture() as drawn:
        place.print(_table(kept, width=place.width))
    # Columns are filled up with blanks, which a file need not keep.
    lines = drawn.get().splitlines()
    place.file.write("".join(f"{line if place.is_terminal else line.rstrip()}\n" for line in lines))
    missing = [column.heading for column in columns if column not in kept]
    if missing:
        place.print(f"No room here for {', '.join(missing)}.")
    if whole:
        place.print(f"All columns: {whole}", soft_wrap=True)


def show_result(title: str, facts: Iterable[Fact], *, then: str = "", file: "IO[str] | None" = None) -> None:
    """Print what a task came to, each fact on a line that can be copied, and the next command.

    Args:
        title: What was made.
        facts: What it is and what it comes to, in their order.
        then: The command that a user would type next.
        file: Where to print it; standard output by default.
    """
    place, rows = console(file), [*facts, *([("next", as_typed(then))] if then else [])]
    wide = max((len(name) for name, _ in rows), default=0)
    place.print(title, style="bold", soft_wrap=True)
    for name, value in rows:
        place.print(f"  {name.ljust(wide)}  {value}".rstrip(), soft_wrap=True)


def as_typed(command: str, *, environ: Mapping[str, str] = os.environ, prefix: str = sys.prefix) -> str:
    """A command as it works in the user's shell: named by its folder where the environment was not activated there.

    Args:
        command: It, beginning with a program of this environment, such as `python` or `reliabit`.
        environ: The environment.
        prefix: The folder of the Python environment that runs.

    >>> as_typed("python src/run.py", environ={"VIRTUAL_ENV": "/project/.venv"}, prefix="/project/.venv")
    'python src/run.py'
    """
    program, blank, arguments = command.partition(" ")
    own = Path(prefix) / "bin" / program
    found = shutil.which(program, path=environ.get("PATH", ""))
    if "VIRTUAL_ENV" in environ or not own.exists() or (found is not None and Path(found) == own):
        return command
    return f"{shown_path(own)}{blank}{arguments}"


def shown_path(path: Path) -> str:
    """A path as it is shortest from here.

    >>> shown_path(Path.cwd() / "outputs" / "a")
    'outputs/a'
    """
    whole = path.absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)


def show_markdown(text: str, *, file: "IO[str] | None" = None) -> None:
    """Print Markdown as it is meant to look; the text itself where nobody looks on.

    A table that is wider than the terminal becomes a list: a paragraph a row, a line a column.
    """
    place = console(file)
    if not place.is_terminal:
        place.file.write(text if text.endswith("\n") else f"{text}\n")
        return
    from rich.markdown import Markdown

    end = 0
    for found in _TABLE.finditer(text):
        if text[end : found.start()].strip():
            place.print(Markdown(text[end : found.start()]))
        _show_markdown_table(found[0], place)
        end = found.end()
    if text[end:].strip():
        place.print(Markdown(text[end:]))


def _show_markdown_table(text: str, place: "Console") -> None:
    headings, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.splitlines()]
    columns = [
        Column(heading, [row[number] for row in rows], left=not any(_is_number(row[number]) for row in rows))
        for number, heading in enumerate(headings)
    ]
    if _least_width(columns) <= place.width:
        place.print(_table(columns, width=place.width), end="\n\n")
        return
    wide = max(len(heading) for heading in headings)
    for first, *others in rows:
        place.print(f"\n{first}", style="bold")
        for heading, cell in zip(headings[1:], others, strict=True):
            if cell:
                place.print(_hanging(f"  {heading.ljust(wide)}  ", cell, width=place.width))
    place.print()


def _hanging(before: str, text: str, *, width: int) -> str:
    """A text in lines of a width, all of which begin where the first one does."""
    room = max(_NARROWEST, width - len(before))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return before + ("\n" + " " * len(before)).join(lines)


def _is_number(cell: str) -> bool:
    return bool(re.match(r"[-+]?\d", cell))


def _least_width(columns: Sequence[Column]) -> int:
    """How many characters a table takes where its longest text is broken into lines; numbers are not."""
    texts = [_width(column, broken=True) for column in columns if column.left]
    return width_of(columns) - max(0, max(texts, default=0) - _READABLE)


def _width(column: Column, *, broken: bool) -> int:
    from rich.cells import cell_len

    lines = [line for cell in column.cells for line in cell.splitlines()]
    return max(map(cell_len, [*(column.heading.split() if broken else [column.heading]), *lines]), default=1)


def _shown(cell: str) -> "Text":
    from rich.text import Text

    first, end, others = cell.partition("\n")
    return Text.assemble(first, end, (others, "dim"))


def _table(columns: Sequence[Column], *, width: int) -> "Table":
    """The columns as a table that is no wider than a width; a text that is too long for it is broken."""
    from rich import box
    from rich.table import Table

    broken = width_of(columns, broken=False) > width
    over = max(0, width_of(columns, broken=broken) - width)
    texts = [column for column in columns if column.left]
    longest = max(texts, key=lambda one: _width(one, broken=broken), default=None)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        room = _width(column, broken=broken)
        if column is longest:
            room = max(min(_NARROWEST, room), room - over)
        heading = "\n".join(textwrap.wrap(column.heading, room)) if broken else column.heading
        table.add_column(heading, justify="left" if column.left else "right", overflow="fold", width=room)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(_shown, row))
    return table
