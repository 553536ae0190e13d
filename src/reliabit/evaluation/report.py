"""The report of one predictions table: metrics with intervals, certificates and slices.

Figures are drawn of it elsewhere (`reliabit.evaluation.figures`): a run is known by what computes its numbers.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.confidences import ConfidenceReport, compare_confidences
from reliabit.evaluation.prediction_columns import (
    MAXPROB,
    confidences_of,
    image_keys,
    metric_inputs,
    reported_rows,
    scored_answers,
)
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.tables import risk_coverage_table
from reliabit.files import replacing
from reliabit.metrics import Certificate, Predictions, SliceReport, Suite, full_suite, slice_report
from reliabit.metrics.bootstrap import cluster_bootstrap
from reliabit.metrics.definitions import QUESTIONS, certified_coverage_at
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import metric_named

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Report:
    """What a predictions table says.

    Attributes:
        metrics: Name to value, fractions and not percent; NaN where a metric is undefined.
        intervals: The same metrics with bootstrap intervals.
        certificates: By confidence, one for each risk that was to be certified; none without the splits that it takes.
        slices: Metrics by column, with gaps; `None` without columns.
        confidences: Every confidence on the questions as they are, under shifts and on mixtures.
        curves: The risk-coverage curve of every confidence on the questions as they are, as CSV.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    certificates: dict[str, list[Certificate]]
    slices: SliceReport | None
    confidences: ConfidenceReport
    curves: str

    def recorded(self) -> dict[str, float]:
        """The metrics that a run records, and the ends of some intervals; `report.json` holds those of all."""
        names = [name for name in self.intervals if metric_named(name).ends_recorded]
        ends = {f"{name}.{end}": getattr(self.intervals[name], end) for name in names for end in ("low", "high")}
        certified = {
            f"{certified_coverage_at(certificate.risk).name}{_suffix(confidence)}": certificate.coverage
            for confidence, certificates in self.certificates.items()
            for certificate in certificates
        }
        return {**self.metrics, **ends, **certified, **self.confidences.recorded()}

    def write(self, folder: Path) -> list[Path]:
        """Write `metrics.json`, `report.json` and the tables of confidences, each whole or not at all."""
        full = {
            "intervals": {name: asdict(interval) for name, interval in self.intervals.items()},
            "certificates": {
                confidence: [certificate.to_dict() for certificate in certificates]
                for confidence, certificates in self.certificates.items()
            },
            "slices": [asdict(value) for value in self.slices.values] if self.slices else [],
            "gaps": [asdict(gap) for gap in self.slices.gaps] if self.slices else [],
        }
        finite = {name: value if math.isfinite(value) else None for name, value in self.recorded().items()}
        written = [_write_json(folder / "metrics.json", finite), _write_json(folder / "report.json", full)]
        for name, text in (
            ("confidences.md", self.confidences.markdown()),
            ("confidences.csv", self.confidences.csv()),
            ("risk_coverage.csv", self.curves),
        ):
            with replacing(folder / name) as unfinished:
                unfinished.write_text(text)
            written.append(folder / name)
        return written


def build_report(predictions: "pa.Table", settings: EvaluationConfig) -> Report:
    """Measure a predictions table; a pure function of it.

    Args:
        predictions: See `reliabit.inference.predictions`.
        settings: What to measure.

    Raises:
        ReliabitError: The table lacks the split that reports, or a column to slice by.
    """
    suite = full_suite(risks=settings.risks, costs=settings.costs, n_bins=settings.n_bins)
    measures, test = metric_inputs(predictions, MAXPROB, split=settings.reported, suite=suite)
    drawn = cluster_bootstrap(
        {"this": measures}, test.images, suite=suite, n_resamples=settings.resamples, seed=settings.seed
    )
    estimates = drawn.estimates["this"]
    confidences = compare_confidences(predictions, settings)
    rows, names = reported_rows(predictions, settings.reported), confidences_of(predictions)
    certify = partial(
        certificates_of, predictions, risks=settings.certified_risks, delta=settings.delta, seed=settings.seed
    )
    return Report(
        metrics={**estimates, QUESTIONS.name: float(len(test.accuracy))},
        intervals={name: drawn.interval("this", name, level=settings.level) for name in estimates},
        certificates={name: certify(confidence=name) for name in names},
        slices=_slices(predictions, measures, suite=suite, settings=settings),
        confidences=confidences,
        curves=risk_coverage_table({name: scored_answers(rows, name) for name in names}),
    )


def _slices(
    predictions: "pa.Table", measures: Predictions, *, suite: Suite, settings: EvaluationConfig
) -> SliceReport | None:
    if not settings.slices:
        return None
    rows = reported_rows(predictions, settings.reported)
    missing = [column for column in settings.slices if column not in rows.column_names]
    if missing:
        raise ReliabitError(
            f"evaluation.slices names {', '.join(missing)}; the predictions table has {', '.join(rows.column_names)}"
        )
    return slice_report(
        {"this": measures},
        image_keys(rows),
        {column: rows[column].to_pylist() for column in settings.slices},
        suite=suite,
        n_resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
    )


def _suffix(confidence: str) -> str:
    return "" if confidence == MAXPROB else f".{confidence}"


def _write_json(path: Path, content: object) -> Path:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path
