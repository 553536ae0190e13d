"""Configurations compared on the same questions: paired differences to a baseline, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.evaluation.prediction_columns import (
    MAXPROB,
    check_same_questions,
    image_keys,
    metric_inputs,
    reported_rows,
)
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.tables import markdown_table, signed
from reliabit.metrics import Suite
from reliabit.metrics.bootstrap import cluster_bootstrap
from reliabit.metrics.definitions import ACCURACY, AUGRC, AURC, SURE, confidently_wrong, coverage_at, ece
from reliabit.metrics.intervals import Difference
from reliabit.metrics.slices import slice_report

if TYPE_CHECKING:
    import pyarrow as pa

COMPARED = (ACCURACY, ece(15), confidently_wrong(SURE), coverage_at(0.01), coverage_at(0.05), AURC, AUGRC)
_SLICED = (ACCURACY, AURC, ece(15))


@dataclass(frozen=True)
class Comparison:
    """Differences of some configurations to a baseline, by configuration and metric, corrected for their number."""

    baseline: str
    differences: dict[str, dict[str, Difference]]

    def markdown(self) -> str:
        """The differences as a table; a star marks those whose interval excludes zero."""
        metrics = list(next(iter(self.differences.values()), {}))
        lines = [[name, *(signed(found[metric]) for metric in metrics)] for name, found in self.differences.items()]
        table = markdown_table(["configuration", *(f"Δ {metric}" for metric in metrics)], lines)
        return f"Differences to {self.baseline}, in percentage points.\n\n{table}"


def compare(tables: "Mapping[str, pa.Table]", settings: EvaluationConfig, *, baseline: str) -> Comparison:
    """Compare predictions tables with a baseline on the same resamples of images.

    Args:
        tables: Predictions by configuration, all about the same questions.
        settings: Resamples, level and seed.
        baseline: One of the configurations.

    Raises:
        ReliabitError: The tables are not about the same questions.
    """
    check_same_questions(tables, splits=(settings.reported,))
    suite = Suite(COMPARED)
    prepared = {
        name: metric_inputs(table, MAXPROB, split=settings.reported, suite=suite) for name, table in tables.items()
    }
    drawn = cluster_bootstrap(
        {name: predictions for name, (predictions, _) in prepared.items()},
        prepared[baseline][1].images,
        suite=suite,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    compared = {one.name: drawn.compare(baseline, one.name, level=settings.level) for one in COMPARED}
    others = [name for name in tables if name != baseline]
    return Comparison(
        baseline=baseline,
        differences={name: {metric: found[name] for metric, found in compared.items()} for name in others},
    )


def compare_slices(tables: "Mapping[str, pa.Table]", settings: EvaluationConfig, *, baseline: str) -> str:
    """How unevenly each configuration serves the slices of the data, and what quantization changes about it.

    Args:
        tables: Predictions by configuration, all about the same questions.
        settings: The columns to slice by, resamples, level and seed.
        baseline: One of the configurations.

    Returns:
        A table in Markdown: for each configuration and column the best slice, the worst one, the gap between them,
        and how much larger that gap is than under the baseline.

    Raises:
        ReliabitError: The tables are not about the same questions.
    """
    check_same_questions(tables, splits=(settings.reported,))
    suite = Suite(_SLICED)
    rows = reported_rows(tables[baseline], settings.reported)
    report = slice_report(
        {
            name: metric_inputs(table, MAXPROB, split=settings.reported, suite=suite)[0]
            for name, table in tables.items()
        },
        image_keys(rows),
        {column: rows[column].to_pylist() for column in settings.slices},
        baseline=baseline,
        suite=suite,
        n_resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
    )
    headings = ["configuration", "sliced by", "metric", "best", "worst", "gap", f"change from {baseline}"]
    lines = [
        [
            gap.configuration,
            gap.column,
            gap.metric,
            gap.best,
            gap.worst,
            signed(gap.gap),
            signed(gap.change) if gap.change is not None and gap.configuration != baseline else "",
        ]
        for gap in report.gaps
    ]
    return markdown_table(headings, lines)
