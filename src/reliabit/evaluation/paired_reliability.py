"""What the answers of cells to the same questions are worth, on the same resamples of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import EFFECTIVE_BITS, Cell, costs_of
from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.prediction_columns import (
    CERTIFIED,
    CONFIDENCE_PREFIX,
    THRESHOLDS,
    ScoredAnswers,
    check_same_questions,
    metric_inputs,
    rows_of,
    scored_answers,
)
from reliabit.evaluation.resampled import Resampled, resampled_mean
from reliabit.evaluation.settings import ParetoSettings
from reliabit.metrics import Bootstrap, Certificate, Predictions, Suite, cluster_bootstrap, definitions, one_per_image
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.metrics.intervals import Interval, corrected_level
from reliabit.metrics.metric import Metric, metric_named

ACCURACY, AUGRC = definitions.ACCURACY.name, definitions.AUGRC.name
"""Qualities of every cell, by name."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the answers of one cell are worth, and what they cost.

    Attributes:
        name: The cell's.
        costs: Metric to value; less is better.
        qualities: Metric to its value and resamples, which all cells share; whether more is better says
            `reliabit.metrics.higher_is_better`.
        certificates: One a certified risk; none where the splits that they take were not asked.
        effective_bits: Bits a quantized weight takes with its scales and zeros, if known; no objective.
    """

    name: str
    costs: Mapping[str, float]
    qualities: Mapping[str, Resampled]
    certificates: tuple[Certificate, ...] = ()
    effective_bits: float | None = None

    def certificate(self, risk: float) -> Certificate | None:
        """The certificate for a risk."""
        return next((found for found in self.certificates if found.risk == risk), None)


@dataclass(frozen=True, eq=False)
class Measurements:
    """The reliability of cells by one policy: each is measured once for each confidence, and kept.

    Resamples depend on the seed and the images alone, so that what is measured at different times is paired all the
    same.

    Attributes:
        settings: What is measured.
        comparisons: Among how many cells the best will be picked after a look at their numbers; certificates and
            intervals are corrected for it.
    """

    settings: ParetoSettings
    comparisons: int
    _known: dict[tuple[Cell, str], Reliability] = field(default_factory=dict, init=False, repr=False)

    @property
    def level(self) -> float:
        """The level of each interval, so that the best of all is wrongly accepted no more often (Bonferroni).

        Any of those that pass might be the one that is picked.
        """
        return corrected_level(self.settings.level, self.comparisons)

    def of(self, cells: Sequence[Cell], *, confidence: str | None = None) -> list[Reliability]:
        """What some cells are worth, in their order.

        Args:
            cells: All asked the same questions.
            confidence: Another confidence to abstain by than that of the settings.

        Raises:
            ReliabitError: They were asked different questions, or one cannot be measured; see `measure_reliability`.
        """
        settings = replace(self.settings, confidence=confidence or self.settings.confidence)
        new = [cell for cell in dict.fromkeys(cells) if (cell, settings.confidence) not in self._known]
        if new:
            found = measure_reliability(new, settings, comparisons=self.comparisons)
            self._known.update({(cell, settings.confidence): one for cell, one in zip(new, found, strict=True)})
        return [self._known[cell, settings.confidence] for cell in cells]

    def named(self, found: Reliability) -> dict[str, Interval]:
        """The qualities of a cell as every table and decision shows them, by label."""
        return {
            label(metric, self.settings.confidence, comparisons=self.comparisons): quality.interval(level=self.level)
            for metric, quality in found.qualities.items()
        }


def heading(metric: str) -> str:
    """What a quality is called, whatever abstains.

    >>> heading("certified/coverage_at_5pct_risk"), heading("selective/coverage_at_0_5pct_risk")
    ('certified C@5%', 'C@0.5%')
    """
    return metric_named(metric).phrase


def label(metric: str, confidence: str, *, comparisons: int = 1) -> str:
    """What one number of one cell is called, wherever it is shown: the quality, by which confidence, certified how.

    >>> label("selective/coverage_at_5pct_risk", "selector"), label("accuracy/mean", "selector")
    ('C@5% selector', 'accuracy')
    >>> label("certified/coverage_at_5pct_risk", "selector", comparisons=9)
    'certified C@5% selector (best of 9)'
    """
    by = "" if metric == ACCURACY else f" {confidence}"
    among = f" (best of {comparisons})" if metric_named(metric).certified else ""
    return f"{heading(metric)}{by}{among}"


def measure_reliability(cells: Sequence[Cell], settings: ParetoSettings, *, comparisons: int) -> list[Reliability]:
    """Accuracy, AUGRC, coverage at risk and certified coverage of cells, all on the same resamples.

    Certified coverage is the share of calibration questions (one an image) that the certified threshold accepts. Its
    resamples hold the threshold fixed, because it is that threshold which goes live: they say how sure the share of
    accepted questions is, and how sure differences between cells are that were asked the same questions. They do not
    say what threshold other calibration questions would have given.

    Args:
        cells: The cells, each once.
        settings: What to measure.
        comparisons: Among how many cells the best will be picked; certificates are corrected for it.

    Raises:
        ReliabitError: They were not asked the same questions, one lacks its costs, the split or the confidence, or the
            confidence has seen an image that would judge it.
    """
    check_same_questions({cell.name: cell.answers for cell in cells}, splits=(settings.reported, THRESHOLDS, CERTIFIED))
    # Confidences need not be probabilities to be ranked by.
    suite = Suite((definitions.ACCURACY, definitions.AUGRC, definitions.coverage_at(settings.required_risk)))
    prepared = [_prepared(cell, settings, suite) for cell in cells]
    # By their places: the version that is live may have the name of what would replace it.
    drawn = cluster_bootstrap(
        {str(place): predictions for place, (predictions, _) in enumerate(prepared)},
        prepared[0][1].images,
        suite=suite,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    found = []
    for place, (cell, (_, answers)) in enumerate(zip(cells, prepared, strict=True)):
        qualities = {metric.name: _quality(metric, answers, drawn, str(place)) for metric in suite.metrics}
        certificates = certificates_of(
            cell.answers,
            confidence=settings.confidence,
            risks=settings.certified_risks,
            delta=settings.delta,
            seed=settings.seed,
            comparisons=comparisons,
        )
        certified = [one for one in certificates if one.risk == settings.required_risk]
        if certified:
            qualities[settings.certified_coverage] = _acceptance(cell, certified[0].threshold, settings)
        costs, bits = costs_of(cell.name, cell.metrics), cell.metrics.get(EFFECTIVE_BITS)
        found.append(Reliability(cell.name, costs, qualities, tuple(certificates), bits))
    return found


def _prepared(cell: Cell, settings: ParetoSettings, suite: Suite) -> tuple[Predictions, ScoredAnswers]:
    if f"{CONFIDENCE_PREFIX}{settings.confidence}" not in cell.answers.column_names:
        raise ReliabitError(
            f"{cell.name} has no confidence {settings.confidence}; run it with confidence=selector or all"
        )
    return metric_inputs(cell.answers, settings.confidence, split=settings.reported, suite=suite)


def _quality(metric: Metric, answers: ScoredAnswers, drawn: Bootstrap, name: str) -> Resampled:
    parts = metric.parts and metric.parts(answers.confidence, answers.accuracy)
    mean = None if parts is None else cluster_mean(parts, answers.images)
    return Resampled(drawn.estimates[name][metric.name], drawn.replicates[name][metric.name], mean)


def _acceptance(cell: Cell, threshold: float, settings: ParetoSettings) -> Resampled:
    asked = scored_answers(rows_of(cell.answers, CERTIFIED), settings.confidence)
    kept = asked.take(one_per_image(asked.images, seed=settings.seed))
    accepted = (kept.confidence >= threshold).astype(np.float64)
    resampled = resampled_mean(accepted, kept.images, n_resamples=settings.resamples, seed=settings.seed)
    return replace(resampled, mean=cluster_mean(accepted, kept.images))
