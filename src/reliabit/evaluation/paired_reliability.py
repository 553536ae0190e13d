"""What the answers of configurations to the same questions are worth, on the same resamples of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from reliabit.config import RegistryConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.contrasts import Resampled
from reliabit.evaluation.resampled_means import resampled_mean
from reliabit.evaluation.roles import CERTIFIED, PREFIX, THRESHOLDS, judged, measured, rows_of
from reliabit.metrics import Certificate, Suite, cluster_bootstrap, one_per_image
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.metrics.functional import augrc_parts
from reliabit.metrics.suite import percent

if TYPE_CHECKING:
    import pyarrow as pa

ACCURACY = "accuracy/mean"
AUGRC = "selective/augrc"

ASKED = ("source", "split", "shift", "question_id", "image_id")
"""Columns that say what was asked."""


@dataclass(frozen=True)
class ParetoSettings:
    """What is measured of each configuration, and how.

    Attributes:
        confidence: The confidence that abstains: `maxprob`, `selector`, ...
        risk: The selective risk of coverage at risk and of the certified coverage that are compared.
        certified_risks: All risks to certify, `risk` among them.
        delta: The probability with which each certificate may fail.
        reported: The split that reports.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level.
        seed: Seeds the resamples and the draw of calibration questions.
        latency_tolerance: The relative difference of latencies that means nothing.
    """

    confidence: str
    risk: float
    certified_risks: tuple[float, ...]
    delta: float
    reported: str
    resamples: int
    level: float
    seed: int
    latency_tolerance: float

    @property
    def certified_coverage(self) -> str:
        """The metric of certified coverage, such as `certified/coverage_at_5pct_risk`."""
        return f"certified/coverage_at_{percent(self.risk)}pct_risk"


def pareto_settings(config: RegistryConfig) -> ParetoSettings:
    """The settings of a promotion policy."""
    return ParetoSettings(
        confidence=config.confidence,
        risk=config.required_risk,
        certified_risks=tuple(config.certified_risks),
        delta=config.delta,
        reported=config.reported,
        resamples=config.resamples,
        level=config.level,
        seed=config.seed,
        latency_tolerance=config.latency_tolerance,
    )


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the answers of one configuration are worth.

    Attributes:
        qualities: Metric to its value and resamples, which all configurations share.
        certificates: One a certified risk; none where the splits that they take were not asked.
    """

    qualities: Mapping[str, Resampled]
    certificates: tuple[Certificate, ...]

    def certificate(self, risk: float) -> Certificate | None:
        """The certificate for a risk."""
        return next((found for found in self.certificates if found.risk == risk), None)


def measure_reliability(
    tables: "Mapping[str, pa.Table]", settings: ParetoSettings, *, comparisons: int
) -> dict[str, Reliability]:
    """Accuracy, AUGRC, coverage at risk and certified coverage of configurations, all on the same resamples.

    Certified coverage is the share of calibration questions (one an image) that the certified threshold accepts. Its
    resamples hold the threshold fixed, because it is that threshold which goes live: they say how sure the share of
    accepted questions is, and how sure differences between configurations are that were asked the same questions. They
    do not say what threshold other calibration questions would have given.

    Args:
        tables: Predictions by configuration.
        settings: What to measure.
        comparisons: Among how many configurations the best will be picked; certificates are corrected for it.

    Raises:
        ReliabitError: Tables are not about the same questions, lack the split or the confidence, or the confidence has
            seen an image that would judge it.
    """
    check_same_questions(tables, splits=(settings.reported, THRESHOLDS, CERTIFIED))
    metrics = (ACCURACY, AUGRC, f"selective/coverage_at_{percent(settings.risk)}pct_risk")
    # Confidences need not be probabilities to be ranked by.
    suite = Suite(risks=(settings.risk,), calibration=False, only=frozenset(metrics))
    prepared = {}
    for name, table in tables.items():
        if f"{PREFIX}{settings.confidence}" not in table.column_names:
            raise ReliabitError(
                f"{name} has no confidence {settings.confidence}; run it with confidence=selector or all"
            )
        prepared[name] = measured(table, settings.confidence, split=settings.reported, suite=suite)
    drawn = cluster_bootstrap(
        {name: predictions for name, (predictions, _) in prepared.items()},
        next(iter(prepared.values()))[1].images,
        suite=suite,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    found = {}
    for name, table in tables.items():
        certificates = certificates_of(
            table,
            confidence=settings.confidence,
            risks=settings.certified_risks,
            delta=settings.delta,
            seed=settings.seed,
            comparisons=comparisons,
        )
        qualities = {
            metric: Resampled(drawn.estimates[name][metric], drawn.replicates[name][metric]) for metric in metrics
        }
        answers = prepared[name][1]
        values = {ACCURACY: answers.accuracy, AUGRC: augrc_parts(answers.confidence, answers.accuracy)}
        for metric, each in values.items():
            qualities[metric] = replace(qualities[metric], mean=cluster_mean(each, answers.images))
        certified = [one for one in certificates if one.risk == settings.risk]
        if certified:
            qualities[settings.certified_coverage] = _acceptance(table, certified[0].threshold, settings)
        found[name] = Reliability(qualities, tuple(certificates))
    return found


def check_same_questions(tables: "Mapping[str, pa.Table]", *, splits: Sequence[str]) -> None:
    """Check that tables can be paired, row by row.

    Raises:
        ReliabitError: They were not asked the same questions of some splits in the same order.
    """
    names = list(tables)
    if not names:
        raise ReliabitError("there is no configuration to measure; finish at least one")
    first = _asked(tables[names[0]], splits)
    for name in names[1:]:
        if _asked(tables[name], splits) != first:
            raise ReliabitError(
                f"{name} and {names[0]} were not asked the same questions in the same order, so they cannot be paired; "
                "answer both with the same data settings"
            )


def _asked(table: "pa.Table", splits: Sequence[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = table.filter(pc.is_in(table["split"], pa.array(splits)))
    return rows.select(list(ASKED)).replace_schema_metadata().combine_chunks()


def _acceptance(table: "pa.Table", threshold: float, settings: ParetoSettings) -> Resampled:
    asked = judged(rows_of(table, CERTIFIED), settings.confidence)
    kept = asked.take(one_per_image(asked.images, seed=settings.seed))
    accepted = (kept.confidence >= threshold).astype(np.float64)
    resampled = resampled_mean(accepted, kept.images, n_resamples=settings.resamples, seed=settings.seed)
    return replace(resampled, mean=cluster_mean(accepted, kept.images))
