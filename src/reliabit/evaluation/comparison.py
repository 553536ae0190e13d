"""Configurations compared on the same questions: paired differences to a baseline, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation.report import REPORTED, as_predictions, suite_of
from reliabit.metrics.bootstrap import cluster_bootstrap
from reliabit.metrics.intervals import Difference

if TYPE_CHECKING:
    import pyarrow as pa

COMPARED = (
    "accuracy/mean",
    "calibration/ece_15",
    "selective/coverage_at_1pct_risk",
    "selective/coverage_at_5pct_risk",
    "selective/aurc",
    "selective/augrc",
)


@dataclass(frozen=True)
class Comparison:
    """Differences of some configurations to a baseline, by configuration and metric, corrected for their number."""

    baseline: str
    differences: dict[str, dict[str, Difference]]

    def markdown(self) -> str:
        """The differences as a table; a star marks those whose interval excludes zero."""
        metrics = list(next(iter(self.differences.values()), {}))
        lines = [["configuration", *(f"Δ {metric}" for metric in metrics)], ["---"] * (len(metrics) + 1)]
        lines += [[name, *(_cell(found[metric]) for metric in metrics)] for name, found in self.differences.items()]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"Differences to {self.baseline}, in percentage points.\n\n{table}\n"


def compare(tables: "Mapping[str, pa.Table]", settings: EvaluationConfig, *, baseline: str) -> Comparison:
    """Compare predictions tables with a baseline on the same resamples of images.

    Args:
        tables: Predictions by configuration, all about the same questions.
        settings: Resamples, level and seed.
        baseline: One of the configurations.

    Raises:
        ReliabitError: The tables are not about the same questions.
    """
    asked = {name: _asked(table) for name, table in tables.items()}
    for name, questions in asked.items():
        if questions != asked[baseline]:
            raise ReliabitError(f"{name} and {baseline} were not asked the same questions; they cannot be paired")
    suite = suite_of(settings)
    prepared = {name: as_predictions(table, suite=suite) for name, table in tables.items()}
    drawn = cluster_bootstrap(
        {name: predictions for name, (predictions, _) in prepared.items()},
        prepared[baseline][1].image_ids,
        suite=suite,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    compared = {metric: drawn.compare(baseline, metric, level=settings.level) for metric in COMPARED}
    others = [name for name in tables if name != baseline]
    return Comparison(
        baseline=baseline,
        differences={name: {metric: compared[metric][name] for metric in COMPARED} for name in others},
    )


def _asked(table: "pa.Table") -> list[str]:
    import pyarrow.compute as pc

    questions: list[str] = table.filter(pc.equal(table["split"], REPORTED))["question_id"].to_pylist()
    return questions


def _cell(difference: Difference) -> str:
    star = "*" if difference.low > 0 or difference.high < 0 else ""
    return f"{100 * difference.estimate:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]{star}"
