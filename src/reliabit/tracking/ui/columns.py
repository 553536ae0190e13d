"""The headline numbers as metrics of their own: the first ones that MLflow shows of a run, in the README's units.

MLflow heads a column with the name of the metric and shows its value as it is. A name may hold neither `%` nor `@`, so
both are written out, and all else is what tables call it. Metrics come in the order in which they were first recorded,
so these are recorded without a value before anything else is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from reliabit.evaluation.headline import Headline, headline_numbers, headlines

BITS, _EFFECTIVE_BITS = "bits per weight", "efficiency/effective_bits"

BEST = "best"
"""What the names of a sweep's best values begin with."""

ALONE = "alone"
"""What the names of numbers end with that hold for a cell by itself, and not for the best of several."""

_WRITTEN_OUT = {"@": " at ", "%": " percent", "/": " per "}


def column_name(heading: str) -> str:
    """The metric that MLflow shows below a heading of ours.

    >>> column_name("accuracy %"), column_name("certified C@5%"), column_name("questions/s")
    ('accuracy percent', 'certified C at 5 percent', 'questions per s')
    """
    for sign, words in _WRITTEN_OUT.items():
        heading = heading.replace(sign, words)
    return " ".join(heading.split())


def is_certified(headline: Headline) -> bool:
    """Whether a number depends on how many cells it is the best of."""
    return headline.metric.startswith("certified/")


def _column_of(headline: Headline) -> str:
    """The column of a headline number; that of a certificate says that it holds for the cell alone."""
    return column_name(headline.heading) + (f" {ALONE}" if is_certified(headline) else "")


def column_names(required_risk: float) -> list[str]:
    """The names of all columns, in their order.

    Args:
        required_risk: The risk whose certified coverage is shown.
    """
    return [*(_column_of(one) for one in headlines(required_risk=required_risk)), BITS]


def empty_columns(required_risk: float) -> dict[str, float]:
    """Every column without a value, to be recorded before anything else is; see `column_names`."""
    return dict.fromkeys(column_names(required_risk), math.nan)


def columns_of(metrics: Mapping[str, float], *, confidence: str, required_risk: float) -> dict[str, float]:
    """The columns of a run, as they are shown.

    Args:
        metrics: What it measured, under its own names.
        confidence: What abstains; MaxProb stands for it where the run lacks it.
        required_risk: The risk whose certified coverage is shown.

    >>> columns_of({"accuracy/mean": 0.89683, "efficiency/effective_bits": 4.5}, confidence="x", required_risk=0.05)
    {'accuracy percent': 89.7, 'bits per weight': 4.5}
    """
    found = {
        _column_of(one.headline): round(one.headline.scale * one.value, one.headline.digits)
        for one in headline_numbers(metrics, confidence=confidence, required_risk=required_risk)
    }
    bits = metrics.get(_EFFECTIVE_BITS)
    return found if bits is None else {**found, BITS: round(bits, 2)}


def best_columns(cells: Sequence[Mapping[str, float]], *, required_risk: float) -> dict[str, float]:
    """The best value of each column among some cells, whichever cell it is of; but for certified coverage.

    What is certified for the best of several is less than what is certified for each alone: `best_certified`.

    >>> best_columns([{"accuracy percent": 90.0, "AURC percent": 2.0}, {"AURC percent": 1.0}], required_risk=0.05)
    {'best accuracy percent': 90.0, 'best AURC percent': 1.0}
    """
    best = {}
    for one in headlines(required_risk=required_risk):
        if is_certified(one):
            continue
        name = _column_of(one)
        values = [cell[name] for cell in cells if math.isfinite(cell.get(name, math.nan))]
        if values:
            best[f"{BEST} {name}"] = max(values) if one.higher_is_better else min(values)
    return best


def best_certified(certified: Iterable[float], *, required_risk: float) -> dict[str, float]:
    """The best certified coverage of a sweep, as its table has it: it holds for the best of all cells.

    Args:
        certified: Of each cell, as fractions.
        required_risk: The risk that is certified.

    >>> best_certified([0.76, 0.805], required_risk=0.05)
    {'best certified C at 5 percent': 80.5}
    """
    values = [value for value in certified if math.isfinite(value)]
    (one,) = (one for one in headlines(required_risk=required_risk) if is_certified(one))
    name = f"{BEST} {column_name(one.heading)}"
    return {name: round(one.scale * max(values), one.digits)} if values else {}
