"""The report of one predictions table: metrics with intervals, certificates, slices and figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.config import EvaluationConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation import figures
from reliabit.files import replacing
from reliabit.metrics import Certificate, Predictions, SliceReport, Suite, certify_threshold, slice_report
from reliabit.metrics.bootstrap import cluster_bootstrap
from reliabit.metrics.functional import effective_reliability, effective_reliability_threshold, risk_coverage_curve
from reliabit.metrics.intervals import Interval
from reliabit.metrics.suite import percent

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.figure import Figure

CONFIDENCE = "conf_maxprob"
REPORTED, THRESHOLDS, CERTIFIED = "test", "val", "cal"
"""Which split reports, which one chooses the thresholds of effective reliability, and which one certifies."""

COST_CURVE = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
INTERVALS_RECORDED = ("accuracy/mean", "calibration/ece_15", "selective/aurc", "selective/augrc")
"""Metrics whose intervals stand among a run's metrics; `report.json` holds all of them."""


@dataclass(frozen=True)
class Split:
    """The predictions of one split, as arrays of shape `(N,)`."""

    confidence: "np.ndarray[Any, Any]"
    accuracy: "np.ndarray[Any, Any]"
    image_ids: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class Report:
    """What a predictions table says.

    Attributes:
        metrics: Name to value, fractions and not percent; NaN where a metric is undefined.
        intervals: The same metrics with bootstrap intervals.
        certificates: One for each risk that was to be certified; none without the splits that it takes.
        slices: Metrics by column, with gaps; `None` without columns.
        figures: Figures by file name.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    certificates: list[Certificate]
    slices: SliceReport | None
    figures: "dict[str, Figure]"

    def recorded(self) -> dict[str, float]:
        """The metrics that a run records, headline intervals among them as `<name>.low` and `<name>.high`."""
        names = [name for name in self.intervals if name in INTERVALS_RECORDED or "coverage_at" in name]
        ends = {f"{name}.{end}": getattr(self.intervals[name], end) for name in names for end in ("low", "high")}
        certified = {
            f"certified/coverage_at_{percent(certificate.risk)}pct_risk": certificate.coverage
            for certificate in self.certificates
        }
        return {**self.metrics, **ends, **certified}

    def write(self, folder: Path) -> list[Path]:
        """Write `metrics.json`, `report.json` and the figures, each whole or not at all."""
        import math

        full = {
            "intervals": {name: asdict(interval) for name, interval in self.intervals.items()},
            "certificates": [certificate.to_dict() for certificate in self.certificates],
            "slices": [asdict(value) for value in self.slices.values] if self.slices else [],
            "gaps": [asdict(gap) for gap in self.slices.gaps] if self.slices else [],
        }
        finite = {name: value if math.isfinite(value) else None for name, value in self.recorded().items()}
        written = [_write_json(folder / "metrics.json", finite), _write_json(folder / "report.json", full)]
        for name, figure in self.figures.items():
            with replacing(folder / name) as unfinished:
                figure.savefig(unfinished, format="png", dpi=120)
            written.append(folder / name)
        return written


def suite_of(settings: EvaluationConfig) -> Suite:
    """The metrics that a configuration asks for."""
    return Suite(risks=tuple(settings.risks), costs=tuple(settings.costs), n_bins=tuple(settings.n_bins))


def split_of(predictions: "pa.Table", name: str) -> Split | None:
    """One split of a predictions table, or `None` where it has no such split."""
    import pyarrow.compute as pc

    rows = predictions.filter(pc.equal(predictions["split"], name))
    if not rows.num_rows:
        return None
    return Split(
        confidence=rows[CONFIDENCE].to_numpy(),
        accuracy=rows["accuracy"].to_numpy(),
        image_ids=rows["image_id"].to_numpy(zero_copy_only=False),
    )


def as_predictions(predictions: "pa.Table", *, suite: Suite) -> tuple[Predictions, Split]:
    """What the metrics need of a predictions table: the reported split, and thresholds that another one chose.

    Raises:
        ReliabitError: The table lacks the split that reports.
    """
    test, val = split_of(predictions, REPORTED), split_of(predictions, THRESHOLDS)
    if test is None:
        raise ReliabitError(f"the predictions table has no rows of the split {REPORTED}; answer that split as well")
    thresholds = suite.fit_thresholds(val.confidence, val.accuracy) if val else {}
    return Predictions(confidence=test.confidence, accuracy=test.accuracy, thresholds=thresholds), test


def build_report(predictions: "pa.Table", settings: EvaluationConfig, *, title: str) -> Report:
    """Measure a predictions table; a pure function of it.

    Args:
        predictions: See `reliabit.inference.predictions`.
        settings: What to measure.
        title: What the figures show.

    Raises:
        ReliabitError: The table lacks the split that reports, or a column to slice by.
    """
    suite = suite_of(settings)
    measured, test = as_predictions(predictions, suite=suite)
    drawn = cluster_bootstrap(
        {"this": measured}, test.image_ids, suite=suite, n_resamples=settings.resamples, seed=settings.seed
    )
    estimates = drawn.estimates["this"]
    certificates = certify(predictions, settings)
    return Report(
        metrics={**estimates, "accuracy/questions": float(len(test.accuracy))},
        intervals={name: drawn.interval("this", name, level=settings.level) for name in estimates},
        certificates=certificates,
        slices=_slices(predictions, measured, suite=suite, settings=settings),
        figures=_figures(predictions, test, certificates=certificates, title=title),
    )


def certify(predictions: "pa.Table", settings: EvaluationConfig) -> list[Certificate]:
    """Certify a threshold for each risk: `val` plans the tests, `cal` decides them, one question an image."""
    planned, tested = split_of(predictions, THRESHOLDS), split_of(predictions, CERTIFIED)
    if planned is None or tested is None:
        return []
    return [
        certify_threshold(
            planned.confidence,
            planned.accuracy,
            tested.confidence,
            tested.accuracy,
            risk,
            settings.delta,
            cal_image_ids=tested.image_ids,
            seed=settings.seed,
        )
        for risk in settings.certified_risks
    ]


def _slices(
    predictions: "pa.Table", measured: Predictions, *, suite: Suite, settings: EvaluationConfig
) -> SliceReport | None:
    import pyarrow.compute as pc

    if not settings.slices:
        return None
    rows = predictions.filter(pc.equal(predictions["split"], REPORTED))
    missing = [column for column in settings.slices if column not in rows.column_names]
    if missing:
        raise ReliabitError(
            f"evaluation.slices names {', '.join(missing)}; the predictions table has {', '.join(rows.column_names)}"
        )
    return slice_report(
        {"this": measured},
        rows["image_id"].to_pylist(),
        {column: rows[column].to_pylist() for column in settings.slices},
        suite=suite,
        n_resamples=settings.resamples,
        level=settings.level,
        seed=settings.seed,
    )


def _figures(
    predictions: "pa.Table", test: Split, *, certificates: Sequence[Certificate], title: str
) -> "dict[str, Figure]":
    curve = risk_coverage_curve(test.confidence, test.accuracy)
    points = figures.operating_points(test.confidence, test.accuracy, certificates)
    drawn = {
        "reliability_diagram.png": figures.reliability_figure(test.confidence, test.accuracy, title=title),
        "risk_coverage.png": figures.risk_coverage_figure(curve.coverage, curve.risk, points=points, title=title),
        "confidence_histogram.png": figures.confidence_histogram(test.confidence, test.accuracy, title=title),
    }
    val = split_of(predictions, THRESHOLDS)
    if val is not None:
        chosen = [effective_reliability_threshold(val.confidence, val.accuracy, cost) for cost in COST_CURVE]
        phi = [
            effective_reliability(test.confidence, test.accuracy, cost, threshold)
            for cost, threshold in zip(COST_CURVE, chosen, strict=True)
        ]
        always = [effective_reliability(test.confidence, test.accuracy, cost, float("-inf")) for cost in COST_CURVE]
        drawn["effective_reliability.png"] = figures.effective_reliability_figure(
            COST_CURVE, phi, always=always, title=title
        )
    return drawn


def _write_json(path: Path, content: object) -> Path:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path
