"""Confidences compared on the same answers: in the domain, under each shift, and on mixtures of both."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from reliabit.evaluation.headline import HEADLINE, SUITE
from reliabit.evaluation.markdown import markdown_table
from reliabit.evaluation.roles import (
    MAXPROB,
    Judged,
    check_roles,
    confidences_of,
    judged,
    seeds_of,
    thresholds_of,
)
from reliabit.evaluation.sets import IN_DOMAIN, EvaluationSet, Kind, evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.metrics import Predictions, evaluate
from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap
from reliabit.metrics.intervals import Difference, Interval

if TYPE_CHECKING:
    import pyarrow as pa

DIFFERENCES = (
    "calibration/ece_15",
    "selective/coverage_at_1pct_risk",
    "selective/coverage_at_5pct_risk",
    "selective/aurc",
    "selective/augrc",
)
SPREAD = ("selective/coverage_at_1pct_risk", "selective/aurc")


@dataclass(frozen=True)
class Measured:
    """One confidence on one set.

    Attributes:
        set_name: Which set.
        kind: What kind of set.
        shifted_share: Its share of shifted questions.
        confidence: Which confidence.
        questions: How many.
        values: The metrics of `HEADLINE`, with intervals.
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

    measured: list[Measured]

    def find(self, set_name: str, confidence: str) -> Measured | None:
        """One confidence on one set, if it was measured."""
        found = (row for row in self.measured if (row.set_name, row.confidence) == (set_name, confidence))
        return next(found, None)

    def recorded(self) -> dict[str, float]:
        """Names and values as a run records them, such as `selective/aurc.selector.visual_mix_50`.

        Differences are `<metric>.<confidence>_minus_maxprob`, with `.low` and `.high`; what was measured in the domain
        has no set in its name.
        """
        values: dict[str, float] = {}
        for row in self.measured:
            where = "" if row.set_name == IN_DOMAIN else f".{row.set_name}"
            values |= {f"{name}.{row.confidence}{where}": found.estimate for name, found in row.values.items()}
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
        text = markdown_table(["questions", "confidence", "n", *HEADLINE.values()], lines)
        compared = [row for row in self.measured if row.against_maxprob]
        if compared:
            lines = [
                [row.set_name, row.confidence, *(signed(found) for found in row.against_maxprob.values())]
                for row in compared
            ]
            text += f"\nDifferences to {MAXPROB} on the same answers, in percentage points; "
            text += "each interval by itself (* excludes zero).\n\n"
            headings = ["questions", "confidence", *(f"Δ {HEADLINE[name]}" for name in DIFFERENCES)]
            text += markdown_table(headings, lines)
        return text

    def csv(self) -> str:
        """Every metric with its interval, one row each, as fractions."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["set", "shifted_share", "confidence", "questions", "metric", "value", "low", "high"])
        for row in self.measured:
            where = (row.set_name, f"{row.shifted_share:.6g}", row.confidence, row.questions)
            writer.writerows([*where, name, *_ends(found)] for name, found in row.values.items())
            writer.writerows(
                [*where, f"{name} minus {MAXPROB}", *_ends(found)] for name, found in row.against_maxprob.items()
            )
        return text.getvalue()


def compare_confidences(predictions: "pa.Table", settings: EvaluationConfig) -> ConfidenceReport:
    """Measure every confidence of a predictions table on every set of its reported rows.

    Thresholds of effective reliability are chosen on `val` as it is, also for shifted questions: nobody who deploys a
    model knows the shift beforehand.

    Raises:
        ReliabitError: An estimator has seen an image that it would be judged by.
    """
    import pyarrow.compute as pc

    names = confidences_of(predictions)
    for name in names:
        check_roles(predictions, name, split=settings.reported)
    reported = predictions.filter(pc.equal(predictions["split"], settings.reported))
    thresholds = {name: thresholds_of(predictions, name, suite=SUITE) for name in names}
    answers = {name: judged(reported, name) for name in names}
    others = {name: [judged(reported, column) for column in seeds_of(predictions, name)] for name in names}
    measured: list[Measured] = []
    for part in evaluation_sets(reported, settings):
        taken = {name: found.take(part.rows) for name, found in answers.items()}
        drawn = cluster_bootstrap(
            {name: Predictions(found.confidence, found.accuracy, thresholds[name]) for name, found in taken.items()},
            taken[MAXPROB].images,
            suite=SUITE,
            n_resamples=settings.resamples,
            seed=settings.seed,
        )
        for name in names:
            seeds = [found.take(part.rows) for found in others[name]]
            measured.append(_measured(part, name, drawn, seeds=seeds, level=settings.level))
    return ConfidenceReport(measured)


def _measured(
    part: EvaluationSet, confidence: str, drawn: Bootstrap, *, seeds: Sequence[Judged], level: float
) -> Measured:
    names = [name for name in HEADLINE if name in drawn.estimates[confidence]]
    differences = {}
    if confidence != MAXPROB:
        both = Bootstrap(
            {name: drawn.estimates[name] for name in (MAXPROB, confidence)},
            {name: drawn.replicates[name] for name in (MAXPROB, confidence)},
        )
        differences = {name: both.compare(MAXPROB, name, level=level)[confidence] for name in DIFFERENCES}
    every = [drawn.estimates[confidence], *(_estimates(found) for found in seeds)]
    return Measured(
        set_name=part.name,
        kind=part.kind,
        shifted_share=part.shifted_share,
        confidence=confidence,
        questions=len(part.rows),
        values={name: drawn.interval(confidence, name, level=level) for name in names},
        against_maxprob=differences,
        seeds={name: [values[name] for values in every] for name in SPREAD} if seeds else {},
    )


def _estimates(answers: Judged) -> dict[str, float]:
    return evaluate(Predictions(answers.confidence, answers.accuracy), suite=SUITE)


def signed(difference: Interval) -> str:
    """A difference in percentage points with its interval; a star where that excludes zero.

    >>> signed(Interval(-0.012, -0.02, -0.004, 0.95))
    '-1.20 [-2.00, -0.40]*'
    """
    star = "*" if difference.low > 0 or difference.high < 0 else ""
    return f"{100 * difference.estimate:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]{star}"


def _shown(row: Measured) -> list[str]:
    return [f"{100 * row.values[name].estimate:.2f}" if name in row.values else "-" for name in HEADLINE]


def _ends(found: Interval) -> list[str]:
    return [f"{value:.6g}" for value in (found.estimate, found.low, found.high)]
