"""The report of one predictions table: metrics with intervals, certificates and slices.

Figures are drawn of it elsewhere (`reliabit.evaluation.report_figures`): a run is known by what computes its numbers.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.confidences import ConfidenceReport, compare_confidences
from reliabit.evaluation.curves import risk_coverage_table
from reliabit.evaluation.roles import (
    MAXPROB,
    confidences_of,
    image_keys,
    judged,
    measured,
    reported_rows,
)
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.files import replacing
from reliabit.metrics import Certificate, Predictions, SliceReport, Suite, slice_report
from reliabit.metrics.bootstrap import cluster_bootstrap
from reliabit.metrics.intervals import Interval
from reliabit.metrics.suite import percent

if TYPE_CHECKING:
    import pyarrow as pa

INTERVALS_RECORDED = ("accuracy/mean", "calibration/ece_15", "selective/aurc", "selective/augrc")
"""Metrics whose intervals stand among a run's metrics; `report.json` holds all of them."""


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
        """The metrics that a run records, headline intervals among them as `<name>.low` and `<name>.high`."""
        names = [name for name in self.intervals if name in INTERVALS_RECORDED or "coverage_at" in name]
        ends = {f"{name}.{end}": getattr(self.intervals[name], end) for name in names for end in ("low", "high")}
        certified = {
            f"certified/coverage_at_{percent(certificate.risk)}pct_risk{_suffix(confidence)}": certificate.coverage
            for confidence, certificates in self.certificates.items()
            for certificate in certificates
        }
        return {**self.metrics, **ends, **certified, **self.confidences.recorded()}

    def write(self, folder: Path) -> list[Path]:
        """Write `metrics.json`, `report.json` and the tables of confidences, each whole or not at all."""
        import math

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


def suite_of(settings: EvaluationConfig) -> Suite:
    """The metrics that a configuration asks for."""
    return Suite(risks=tuple(settings.risks), costs=tuple(settings.costs), n_bins=tuple(settings.n_bins))


def build_report(predictions: "pa.Table", settings: EvaluationConfig) -> Report:
    """Measure a predictions table; a pure function of it.

    Args:
        predictions: See `reliabit.inference.predictions`.
        settings: What to measure.

    Raises:
        ReliabitError: The table lacks the split that reports, or a column to slice by.
    """
    suite = suite_of(settings)
    measures, test = measured(predictions, MAXPROB, split=settings.reported, suite=suite)
    drawn = cluster_bootstrap(
        {"this": measures}, test.images, suite=suite, n_resamples=settings.resamples, seed=settings.seed
    )
    estimates = drawn.estimates["this"]
    confidences = compare_confidences(predictions, settings)
    rows = reported_rows(predictions, settings.reported)
    certificates = {name: certify(predictions, settings, confidence=name) for name in confidences_of(predictions)}
    return Report(
        metrics={**estimates, "accuracy/questions": float(len(test.accuracy))},
        intervals={name: drawn.interval("this", name, level=settings.level) for name in estimates},
        certificates=certificates,
        slices=_slices(predictions, measures, suite=suite, settings=settings),
        confidences=confidences,
        curves=risk_coverage_table({name: judged(rows, name) for name in confidences_of(predictions)}),
    )


def certify(predictions: "pa.Table", settings: EvaluationConfig, *, confidence: str = MAXPROB) -> list[Certificate]:
    """Certify a threshold for each risk that a configuration asks for; see `certificates_of`."""
    return certificates_of(
        predictions,
        confidence=confidence,
        risks=settings.certified_risks,
        delta=settings.delta,
        seed=settings.seed,
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
