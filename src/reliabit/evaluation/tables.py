"""Tables as Markdown and as comma-separated values, and how numbers with their intervals stand in them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

import numpy as np

from reliabit.evaluation.prediction_columns import ScoredAnswers
from reliabit.metrics.functional import risk_coverage_curve
from reliabit.metrics.intervals import Interval

POINTS = 200
"""Rows of a curve at most: it has as many points as there are questions, and no chart shows them."""


def markdown_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table with one line a row.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "".join("| " + " | ".join(line) + " |\n" for line in (headings, ["---"] * len(headings), *lines))


def csv_table(headings: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    r"""The same as comma-separated values.

    >>> csv_table(["a", "b"], [[1, "2"]])
    'a,b\n1,2\n'
    """
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([headings, *lines])
    return text.getvalue()


def signed(difference: Interval) -> str:
    """A difference in percentage points with its interval; a star where that excludes zero.

    >>> signed(Interval(-0.012, -0.02, -0.004, 0.95))
    '-1.20 [-2.00, -0.40]*'
    """
    star = "*" if difference.low > 0 or difference.high < 0 else ""
    return f"{100 * difference.estimate:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]{star}"


def shown(found: Interval) -> str:
    """A share in per cent with its interval.

    >>> shown(Interval(0.5, 0.41, 0.59, 0.9))
    '50.00 [41.00, 59.00]'
    """
    return f"{100 * found.estimate:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def ends(found: Interval) -> list[str]:
    """An estimate and the ends of its interval, as fractions."""
    return [f"{value:.6g}" for value in (found.estimate, found.low, found.high)]


def risk_coverage_table(answers: Mapping[str, ScoredAnswers], *, points: int = POINTS) -> str:
    """Selective risk by coverage as CSV, both as fractions: the column `coverage`, and one for each confidence.

    Args:
        answers: The same answers with each confidence, by its name.
        points: Rows at most, evenly spaced in coverage; each is a point of the curve, and full coverage is the last.

    Example:
        >>> surest_right = ScoredAnswers(np.array([0.9, 0.1]), np.array([1.0, 0.0]), ["s/a", "s/b"])
        >>> print(risk_coverage_table({"maxprob": surest_right}), end="")
        coverage,maxprob
        0.5,0
        1,0.5
    """
    curves = {name: risk_coverage_curve(found.confidence, found.accuracy) for name, found in answers.items()}
    coverage = next(iter(curves.values())).coverage
    rows = _spread(len(coverage), points)
    columns = [coverage, *(found.risk for found in curves.values())]
    return csv_table(["coverage", *curves], ([f"{column[row]:.6g}" for column in columns] for row in rows))


def cells_table(answers: Mapping[str, ScoredAnswers], *, points: int = POINTS // 2) -> str:
    """The risk-coverage curves of several cells below each other as CSV, in per cent, for charts that tell them apart.

    Args:
        answers: The answers by the name of the cell.
        points: Rows a cell at most; see `risk_coverage_table`.

    Example:
        >>> surest_right = ScoredAnswers(np.array([0.9, 0.1]), np.array([1.0, 0.0]), ["s/a", "s/b"])
        >>> print(cells_table({"hqq·4b": surest_right}), end="")
        cell,coverage,risk
        hqq·4b,50,0
        hqq·4b,100,50
    """
    curves = {name: risk_coverage_curve(found.confidence, found.accuracy) for name, found in answers.items()}
    rows = (
        [name, f"{100 * curve.coverage[row]:.5g}", f"{100 * curve.risk[row]:.5g}"]
        for name, curve in curves.items()
        for row in _spread(len(curve.coverage), points)
    )
    return csv_table(["cell", "coverage", "risk"], rows)


def _spread(length: int, points: int) -> list[int]:
    """At most so many places of a curve, evenly spaced; the last is among them."""
    places = np.linspace(0, length - 1, min(points, length)).round().astype(int)
    return [int(place) for place in np.unique(places)]
