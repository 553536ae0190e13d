"""A Pareto front as a table: every configuration with its objectives and where it stands."""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO

from reliabit.evaluation.contrasts import Resampled
from reliabit.evaluation.markdown import markdown_table
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC
from reliabit.evaluation.pareto import Point
from reliabit.evaluation.pareto_points import LATENCY, RESIDENT, STORED, Pareto

COSTS = {
    STORED: ("stored MiB", 2**-20, ".2f"),
    RESIDENT: ("resident MiB", 2**-20, ".2f"),
    LATENCY: ("ms/question", 1e3, ".2f"),
}
"""Heading, factor and form of each cost."""

EXPLANATION = (
    "front: no other configuration is at least as good in every column and better in one. undecided: one is, by point "
    "values, but within the uncertainty, so it stays. dominated: one surely is.\n"
)


def heading(metric: str) -> str:
    """What a column of a quality is called.

    >>> heading("certified/coverage_at_5pct_risk"), heading("selective/coverage_at_0_5pct_risk")
    ('certified C@5%', 'C@0.5%')
    """
    known = {ACCURACY: "accuracy", AUGRC: "AUGRC"}
    if metric in known:
        return known[metric]
    risk = metric.partition("coverage_at_")[2].removesuffix("pct_risk").replace("_", ".")
    return f"{'certified ' if metric.startswith('certified/') else ''}C@{risk}%"


def pareto_markdown(pareto: Pareto) -> str:
    """The table in Markdown, qualities in per cent with their intervals."""
    settings = pareto.settings
    first = pareto.points[0]
    headings = ["configuration", "standing", "dominated by", *(COSTS[cost][0] for cost in first.costs)]
    headings += [f"{heading(metric)} %" for metric in first.qualities]
    lines = [
        [point.name, *_place(pareto, point), *_costs(point), *_qualities(point, level=settings.level)]
        for point in pareto.points
    ]
    return (
        f"Confidence: {settings.confidence}. Intervals: {100 * settings.level:g} %, {settings.resamples} resamples of "
        f"images. Certificates hold for the best of {len(pareto.points)} configurations. Latencies are "
        f"compared in steps of {100 * settings.latency_tolerance:g} %.\n\n{EXPLANATION}\n"
        f"{markdown_table(headings, lines)}"
    )


def pareto_csv(fronts: Mapping[str, Pareto]) -> str:
    """Several fronts as comma-separated values: bytes, seconds and fractions, with the ends of intervals.

    Args:
        fronts: By what tells them apart, such as the model and the data set.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "configuration", "standing", "dominated_by", "objective", "value", "low", "high"])
    for where, pareto in fronts.items():
        for point in pareto.points:
            place = pareto.places[point.name]
            row = [where, point.name, place.standing, "; ".join(place.by)]
            writer.writerows([*row, *values] for values in _objectives(point, level=pareto.settings.level))
    return text.getvalue()


def _objectives(point: Point, *, level: float) -> Iterable[list[str]]:
    for name, value in point.costs.items():
        yield [name, f"{value:.9g}", "", ""]
    for name, quality in point.qualities.items():
        found = quality.interval(level=level)
        yield [name, *(f"{value:.6g}" for value in (found.estimate, found.low, found.high))]


def _place(pareto: Pareto, point: Point) -> tuple[str, str]:
    place = pareto.places[point.name]
    others = f" and {len(place.by) - 1} more" if len(place.by) > 1 else ""
    return place.standing, f"{place.by[0]}{others}" if place.by else ""


def _costs(point: Point) -> list[str]:
    return [format(value * COSTS[name][1], COSTS[name][2]) for name, value in point.costs.items()]


def _qualities(point: Point, *, level: float) -> list[str]:
    return [shown(quality, level=level) for quality in point.qualities.values()]


def shown(quality: Resampled, *, level: float) -> str:
    """A quality in per cent with its interval.

    >>> import numpy as np
    >>> shown(Resampled(0.5, np.linspace(0.4, 0.6, 1001)), level=0.9)
    '50.00 [41.00, 59.00]'
    """
    found = quality.interval(level=level)
    return f"{100 * found.estimate:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"
