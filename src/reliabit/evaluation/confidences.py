"""Confidences compared on the same answers: in the domain, under each shift, and on mixtures of both."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from reliabit.evaluation.prediction_columns import (
    MAXPROB,
    ScoredAnswers,
    check_not_fitted_on,
    confidences_of,
    scored_answers,
    seeds_of,
    thresholds_of,
)
from reliabit.evaluation.sets import IN_DOMAIN, EvaluationSet, Kind, evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.tables import csv_table, ends, markdown_table, signed
from reliabit.metrics import Predictions, Suite, evaluate
from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap
from reliabit.metrics.definitions import AUGRC, AURC, SURE, confidently_wrong, coverage_at, ece
from reliabit.metrics.intervals import Difference, Interval
from reliabit.metrics.metric import Metric, metric_named
from reliabit.metrics.suite import headline, headline_suite

if TYPE_CHECKING:
    import pyarrow as pa

DIFFERENCES = (ece(15), confidently_wrong(SURE), coverage_at(0.01), coverage_at(0.05), AURC, AUGRC)
"""What is compared with MaxProb."""

_SPREAD = (coverage_at(0.01), AURC)
"""What is compared between seeds."""


@dataclass(frozen=True)
class ConfidenceMeasurement:
    """One confidence on one set.

    Attributes:
        set_name: Which set.
        kind: What kind of set.
        shifted_share: Its share of shifted questions.
        confidence: Which confidence.
        questions: How many.
        values: The headline metrics by name, with intervals.
        against_maxprob: The paired differences to MaxProb; none for MaxProb itself.
        seeds: The same metric of the same estimator trained with every seed.
    """

    set_name: str
    kind: Kind
    shifted_share: float
    confidence: str
    questions: int
    values: Mapping[str, Interval]
    against_maxprob: Mapping[str, Difference] = field(default_factory=dict)
    seeds: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfidenceReport:
    """Every confidence on every set."""

    measured: list[ConfidenceMeasurement]

    def find(self, set_name: str, confidence: str) -> ConfidenceMeasurement | None:
        """One confidence on one set, if it was measured."""
        found = (row for row in self.measured if (row.set_name, row.confidence) == (set_name, confidence))
        return next(found, None)

    def recorded(self) -> dict[str, float]:
        """Names and values as a run records them, such as `selective/aurc.selector.visual_mix_50`.

        Differences are `<metric>.<confidence>_minus_maxprob`, with `.low` and `.high`; what was measured in the domain
        has no set in its name, and the ends of the intervals that `Metric.ends_recorded` names.
        """
        values: dict[str, float] = {}
        for row in self.measured:
            where = "" if row.set_name == IN_DOMAIN else f".{row.set_name}"
            values |= {f"{name}.{row.confidence}{where}": found.estimate for name, found in row.values.items()}
            if not where and row.confidence != MAXPROB:
                values |= _recorded_ends(row)
            for name, difference in row.against_maxprob.items():
                key = f"{name}.{row.confidence}_minus_{MAXPROB}{where}"
                values |= {key: difference.estimate, f"{key}.low": difference.low, f"{key}.high": difference.high}
            for name, spread in row.seeds.items():
                values[f"{name}.{row.confidence}_seeds_mean{where}"] = float(np.mean(spread))
                values[f"{name}.{row.confidence}_seeds_sd{where}"] = float(np.std(spread, ddof=1))
        return values

    def markdown(self) -> str:
        """Two tables in per cent: the metrics, and the paired differences to MaxProb."""
        lines = [[row.set_name, row.confidence, str(row.questions), *_shown(row)] for row in self.measured]
        text = markdown_table(["questions", "confidence", "n", *(metric.heading for metric in headline())], lines)
        compared = [row for row in self.measured if row.against_maxprob]
        if compared:
            lines = [
                [row.set_name, row.confidence, *(signed(found) for found in row.against_maxprob.values())]
                for row in compared
            ]
            text += f"\nDifferences to {MAXPROB} on the same answers, in percentage points; "
            text += "each interval by itself (* excludes zero).\n\n"
            headings = ["questions", "confidence", *(f"Δ {metric.heading}" for metric in DIFFERENCES)]
            text += markdown_table(headings, lines)
        return text

    def csv(self) -> str:
        """Every metric with its interval, one row each, as fractions."""
        headings = ["set", "shifted_share", "confidence", "questions", "metric", "value", "low", "high"]
        return csv_table(headings, (line for row in self.measured for line in _csv_lines(row)))


def compare_confidences(predictions: "pa.Table", settings: EvaluationConfig) -> ConfidenceReport:
    """Measure every confidence of a predictions table on every set of its reported rows.

    Thresholds of effective reliability are chosen on `val` as it is, also for shifted questions: nobody who deploys a
    model knows the shift beforehand.

    Raises:
        ReliabitError: An estimator has seen an image that it would be judged by.
    """
    import pyarrow.compute as pc

    suite, names = headline_suite(), confidences_of(predictions)
    for name in names:
        check_not_fitted_on(predictions, name, split=settings.reported)
    reported = predictions.filter(pc.equal(predictions["split"], settings.reported))
    thresholds = {name: thresholds_of(predictions, name, suite=suite) for name in names}
    answers = {name: scored_answers(reported, name) for name in names}
    others = {name: [scored_answers(reported, column) for column in seeds_of(predictions, name)] for name in names}
    measured: list[ConfidenceMeasurement] = []
    for part in evaluation_sets(reported, settings):
        taken = {name: found.take(part.rows) for name, found in answers.items()}
        drawn = resample_answers(taken, thresholds, suite=suite, settings=settings)
        for name in names:
            seeds = [_estimates(found.take(part.rows), suite) for found in others[name]]
            measured.append(_measured(part, name, drawn, seeds=seeds, level=settings.level))
    return ConfidenceReport(measured)


def _estimates(answers: ScoredAnswers, suite: Suite) -> dict[str, float]:
    return evaluate(Predictions(answers.confidence, answers.accuracy), suite=suite)


def _measured(
    part: EvaluationSet, confidence: str, drawn: Bootstrap, *, seeds: Sequence[Mapping[str, float]], level: float
) -> ConfidenceMeasurement:
    found = measurement_of(
        part, confidence, drawn, names=(MAXPROB, confidence), metrics=headline(), compared=DIFFERENCES, level=level
    )
    if not seeds:
        return found
    every = [drawn.estimates[confidence], *seeds]
    return replace(found, seeds={one.name: [values[one.name] for values in every] for one in _SPREAD})


def measurement_of(
    part: EvaluationSet,
    confidence: str,
    drawn: Bootstrap,
    *,
    names: tuple[str, str],
    metrics: Iterable[Metric],
    compared: Iterable[Metric],
    level: float,
) -> ConfidenceMeasurement:
    """Read a confidence on a set off the bootstrap of that set.

    Args:
        part: The set.
        confidence: The confidence.
        drawn: The bootstrap.
        names: What MaxProb and the confidence are called in the bootstrap.
        metrics: Whose values are wanted, where they are known.
        compared: Whose differences to MaxProb are wanted.
        level: Level of the intervals; each holds by itself.
    """
    baseline, own = names
    return ConfidenceMeasurement(
        set_name=part.name,
        kind=part.kind,
        shifted_share=part.shifted_share,
        confidence=confidence,
        questions=len(part.rows),
        values={
            metric.name: drawn.interval(own, metric.name, level=level)
            for metric in metrics
            if metric.name in drawn.estimates[own]
        },
        against_maxprob={}
        if own == baseline
        else {metric.name: drawn.compare(baseline, metric.name, others=[own], level=level)[own] for metric in compared},
    )


def resample_answers(
    answers: Mapping[str, ScoredAnswers],
    thresholds: Mapping[str, Mapping[float, float]],
    *,
    suite: Suite,
    settings: EvaluationConfig,
) -> Bootstrap:
    """The bootstrap of answers to the same questions, and of the thresholds that were chosen for them."""
    return cluster_bootstrap(
        {name: Predictions(one.confidence, one.accuracy, thresholds[name]) for name, one in answers.items()},
        next(iter(answers.values())).images,
        suite=suite,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )


def _shown(row: ConfidenceMeasurement) -> list[str]:
    return [one.text(row.values[one.name].estimate) if one.name in row.values else "-" for one in headline()]


def _recorded_ends(row: ConfidenceMeasurement) -> dict[str, float]:
    """The ends of a confidence's intervals; those of MaxProb are recorded without its name."""
    kept = {name: found for name, found in row.values.items() if metric_named(name).ends_recorded}
    return {
        f"{name}.{row.confidence}.{end}": getattr(found, end) for name, found in kept.items() for end in ("low", "high")
    }


def _csv_lines(row: ConfidenceMeasurement) -> Iterator[list[object]]:
    where = [row.set_name, f"{row.shifted_share:.6g}", row.confidence, row.questions]
    compared = {f"{name} minus {MAXPROB}": found for name, found in row.against_maxprob.items()}
    for name, found in {**row.values, **compared}.items():
        yield [*where, name, *ends(found)]
