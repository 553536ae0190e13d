"""Tables of a report of somebody's own answers, in Markdown and in a terminal, and how numbers stand in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from reliabit.evaluation.tables import markdown_table
from reliabit.metrics.certify import Certificate
from reliabit.metrics.functional import OperatingPoint
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric

_UNDEFINED = "–"

_MANY = 1000


@dataclass(frozen=True)
class Part:
    """A table, and what stands above it; the first column is text, what follows are numbers."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]


def in_markdown(title: str, parts: Sequence[Part], notes: Sequence[str]) -> str:
    """A page of tables and of what is to be noted."""
    text = [f"# {title}\n"]
    text += [f"## {part.title}\n\n{markdown_table(part.headings, part.lines)}" for part in parts]
    return "\n".join([*text, *(["".join(f"- {note}\n" for note in notes)] if notes else [])])


def show_parts(title: str, parts: Sequence[Part], notes: Sequence[str], *, file: "IO[str] | None" = None) -> None:
    """Print tables and notes no wider than the terminal."""
    from reliabit.terminal import Column, console, show_table

    place = console(file)
    place.print(title, style="bold", soft_wrap=True)
    # The end is what stays on the screen.
    *first, last = parts
    for part in (last, *first):
        columns = [
            Column(heading, [line[number] for line in part.lines], priority=max(0, number - 1), left=number == 0)
            for number, heading in enumerate(part.headings)
        ]
        place.print()
        show_table(columns, title=part.title, file=file)
    place.print()
    for note in notes:
        place.print(f"{note[0].upper()}{note[1:]}.")


def heading_of(metric: Metric) -> str:
    """What a row of a metric is called, with the unit of what is no percentage.

    >>> from reliabit.metrics.definitions import ACCURACY, NLL
    >>> heading_of(ACCURACY), heading_of(NLL)
    ('accuracy', 'NLL, nats')
    """
    return metric.phrase if metric.unit == "%" else f"{metric.phrase}, {metric.unit}"


def value_text(metric: Metric, found: Interval | None) -> str:
    """A value with its interval; a dash where it is undefined.

    >>> from reliabit.metrics.definitions import AURC
    >>> value_text(AURC, Interval(0.125, 0.1, 0.15, 0.95)), value_text(AURC, None)
    ('12.50 [10.00, 15.00]', '–')
    """
    if found is None or math.isnan(found.estimate):
        return _UNDEFINED
    # What abstains from nothing at a high cost loses thousands: no column need be wide for its decimals.
    estimate, low, high = (
        metric.text(end) if abs(metric.scale * end) < _MANY else f"{metric.scale * end:.0f}"
        for end in (found.estimate, found.low, found.high)
    )
    return estimate if math.isnan(found.low) else f"{estimate} [{low}, {high}]"


def certificate_cells(certificate: Certificate, tried: OperatingPoint | None) -> list[str]:
    """A certificate as cells: risk, threshold, coverage of `cal`, and coverage and risk where it was tried."""
    risk = f"{100 * certificate.risk:g}"
    if math.isinf(certificate.threshold):
        return [risk, "none certified", "0.00", _UNDEFINED, _UNDEFINED]
    found = [f"{100 * tried.coverage:.2f}", f"{100 * tried.risk:.2f}"] if tried else [_UNDEFINED] * 2
    return [risk, f"{certificate.threshold:.6g}", f"{100 * certificate.coverage:.2f}", *found]
