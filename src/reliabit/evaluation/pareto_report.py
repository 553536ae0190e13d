"""A Pareto front as tables: every configuration with its objectives and where it stands."""

from collections.abc import Iterable, Mapping

from reliabit.evaluation.cells import LATENCY, RESIDENT, STORED
from reliabit.evaluation.paired_reliability import ACCURACY, Reliability
from reliabit.evaluation.pareto import Pareto
from reliabit.evaluation.tables import csv_table, markdown_table, shown

MIB = 2**20

COSTS = {
    STORED: ("stored MiB", 1 / MIB, ".2f"),
    RESIDENT: ("resident MiB", 1 / MIB, ".2f"),
    LATENCY: ("ms/question", 1e3, ".2f"),
}
"""Heading, factor and form of each cost."""

_EXPLANATION = (
    "front: no other configuration is at least as good in every column and better in one. undecided: one is, by point "
    "values, but within the uncertainty, so it stays. dominated: one surely is.\n"
)


def pareto_markdown(pareto: Pareto) -> str:
    """The table in Markdown, qualities in per cent with their intervals."""
    measurements = pareto.measurements
    settings, first = measurements.settings, pareto.points[0]
    headings = ["configuration", "standing", "dominated by", *(COSTS[cost][0] for cost in first.costs)]
    headings += [f"{name} %" for name in measurements.named(first)]
    lines = [
        [
            point.name,
            *_place(pareto, point),
            *_costs(point),
            *(shown(found) for found in measurements.named(point).values()),
        ]
        for point in pareto.points
    ]
    return (
        f"Confidence: {settings.confidence}. Intervals: {100 * measurements.level:.4g} %, which is "
        f"{100 * settings.level:g} % for the best of {measurements.comparisons}, {settings.resamples} resamples of "
        f"images. Certificates hold for the best of {measurements.comparisons} configurations. Latencies are compared "
        f"in steps of {100 * settings.latency_tolerance:g} %.\n\n{_EXPLANATION}\n{markdown_table(headings, lines)}"
    )


def pareto_csv(fronts: Mapping[str, Pareto]) -> str:
    """Several fronts as comma-separated values: bytes, seconds and fractions, with the ends of intervals.

    Args:
        fronts: By what tells them apart, such as the model and the data set.
    """
    columns = ["objective", "confidence", "value", "low", "high", "level", "best_of"]
    lines = (
        [where, point.name, pareto.places[point.name].standing, "; ".join(pareto.places[point.name].by), *values]
        for where, pareto in fronts.items()
        for point in pareto.points
        for values in _objectives(point, pareto)
    )
    return csv_table(["where", "configuration", "standing", "dominated_by", *columns], lines)


def _objectives(point: Reliability, pareto: Pareto) -> Iterable[list[str]]:
    for name, value in point.costs.items():
        yield [name, "", f"{value:.9g}", "", "", "", ""]
    measurements = pareto.measurements
    for metric, quality in point.qualities.items():
        found = quality.interval(level=measurements.level)
        by = "" if metric == ACCURACY else measurements.settings.confidence
        numbers = (found.estimate, found.low, found.high, found.level)
        yield [metric, by, *(f"{value:.6g}" for value in numbers), str(measurements.comparisons)]


def _place(pareto: Pareto, point: Reliability) -> tuple[str, str]:
    place = pareto.places[point.name]
    others = f" and {len(place.by) - 1} more" if len(place.by) > 1 else ""
    return place.standing, f"{place.by[0]}{others}" if place.by else ""


def _costs(point: Reliability) -> list[str]:
    return [format(value * COSTS[name][1], COSTS[name][2]) for name, value in point.costs.items()]
