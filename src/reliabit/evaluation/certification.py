"""Certified thresholds of a predictions table: `val` plans the tests, `cal` decides them, one question an image.

A certificate is a claim about the model that was certified. What its threshold does on the answers of another one, such
as the same model at a narrower width, `carry` measures: nothing promises that the risk still holds there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from reliabit.evaluation.prediction_columns import (
    CERTIFIED,
    MAXPROB,
    THRESHOLDS,
    ScoredAnswers,
    reported_rows,
    rows_of,
    scored_answers,
)
from reliabit.evaluation.resampled import Resampled, resampled_mean
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.tables import markdown_table, shown
from reliabit.metrics import Certificate, Interval, certify_threshold

if TYPE_CHECKING:
    import pyarrow as pa

    from reliabit.evaluation.cells import Cell

Held: TypeAlias = Literal["holds", "broken", "undecided"]


def certificates_of(
    predictions: "pa.Table",
    *,
    confidence: str,
    risks: Sequence[float],
    delta: float,
    seed: int,
    comparisons: int = 1,
) -> list[Certificate]:
    """Certify a threshold for each risk.

    Args:
        predictions: See `reliabit.inference.predictions`.
        confidence: The confidence that is to abstain by.
        risks: The selective risks to guarantee, each in (0, 1).
        delta: The probability with which each guarantee may fail.
        seed: Seeds the draw of one question an image.
        comparisons: Among how many configurations the best will be picked after a look at these certificates.

    Returns:
        One certificate a risk, in their order; none where a split that it takes was not asked.

    Raises:
        ReliabitError: An argument is unusable.
    """
    splits = [rows_of(predictions, split) for split in (THRESHOLDS, CERTIFIED)]
    if not all(rows.num_rows for rows in splits):
        return []
    planned, tested = (scored_answers(rows, confidence) for rows in splits)
    return [
        certify_threshold(
            planned.confidence,
            planned.accuracy,
            tested.confidence,
            tested.accuracy,
            risk,
            delta,
            cal_image_ids=np.array(tested.images),
            comparisons=comparisons,
            seed=seed,
        )
        for risk in risks
    ]


@dataclass(frozen=True, eq=False)
class Carried:
    """A certificate's threshold on other answers than those of the model that it was certified for.

    Attributes:
        certificate: The claim.
        coverage: The share of the answers that the threshold accepts.
        risk: Their mean loss; NaN where none is accepted.
    """

    certificate: Certificate
    coverage: Resampled
    risk: Resampled

    def held(self, *, level: float) -> Held:
        """Whether the interval of the risk lies below the certified one, above it, or on both sides."""
        found = self.risk.interval(level=level)
        if found.high <= self.certificate.risk:
            return "holds"
        return "broken" if found.low > self.certificate.risk else "undecided"


def carry(certificate: Certificate, answers: ScoredAnswers, *, n_resamples: int, seed: int) -> Carried:
    """Apply a certificate's threshold to answers that it says nothing about.

    Args:
        certificate: From the answers of one model.
        answers: Those of another one, of images that had no part in the certificate.
        n_resamples: Resamples of images.
        seed: Of the draws.

    >>> sure = np.linspace(1, 0, 1000)
    >>> right = np.arange(1000) < 700
    >>> certificate = certify_threshold(sure, right, sure, right, 0.05, 0.1)
    >>> images = [str(number) for number in range(1000)]
    >>> worse = ScoredAnswers(sure, 1.0 * (np.arange(1000) < 500), images)
    >>> found = carry(certificate, worse, n_resamples=200, seed=0)
    >>> round(found.coverage.estimate, 2), round(found.risk.estimate, 2), found.held(level=0.95)
    (0.72, 0.31, 'broken')
    """
    accepted = answers.confidence >= certificate.threshold
    mean = partial(resampled_mean, images=answers.images, n_resamples=n_resamples, seed=seed)
    with np.errstate(invalid="ignore"):
        risk = mean(1.0 - answers.accuracy, rows=accepted)
    return Carried(certificate, coverage=mean(accepted.astype(np.float64)), risk=risk)


def carried_between(cells: "Sequence[Cell]", settings: EvaluationConfig) -> "Iterator[tuple[Cell, Cell, Carried]]":
    """The certificates of each cell on every narrower cell of its quantizer, and those of the unquantized on all.

    MaxProb abstains, which is the same function of every model's answers; thresholds that accept nothing are left out.

    Args:
        cells: Cells of one model and data set, none of them mixed.
        settings: The risks, the split that reports, resamples and seed.

    Yields:
        The cell that was certified, the one that is judged, and what was found.
    """
    for source in cells:
        others = [cell for cell in cells if _is_narrower(cell, than=source)]
        if not others:
            continue
        certificates = certificates_of(
            source.answers, confidence=MAXPROB, risks=settings.certified_risks, delta=settings.delta, seed=settings.seed
        )
        for other in others:
            answers = scored_answers(reported_rows(other.answers, settings.reported), MAXPROB)
            for certificate in certificates:
                if math.isfinite(certificate.threshold):
                    yield source, other, carry(certificate, answers, n_resamples=settings.resamples, seed=settings.seed)


def _is_narrower(cell: "Cell", *, than: "Cell") -> bool:
    return cell.bits < than.bits and (than.unquantized or cell.quantizer == than.quantizer)


def carried_table(cells: "Sequence[Cell]", settings: EvaluationConfig) -> str:
    """What the certificates of each cell are worth on narrower ones, in Markdown; empty where none can be carried."""
    lines = [
        [
            source.quantization,
            other.quantization,
            f"{100 * found.certificate.risk:g}",
            f"{found.certificate.threshold:.4f}",
            *(_shown(part.interval(level=settings.level)) for part in (found.coverage, found.risk)),
            found.held(level=settings.level),
        ]
        for source, other, found in carried_between(cells, settings)
    ]
    if not lines:
        return ""
    return (
        "What the threshold certified for one configuration does on the answers of a narrower one, in per cent "
        f"({MAXPROB}, questions as they are, each interval by itself). A certificate promises nothing there: *holds* "
        "and *broken* say where the whole interval of the risk lies.\n\n"
        + markdown_table(["certified for", "used on", "risk", "threshold", "coverage", "risk found", ""], lines)
    )


def _shown(found: Interval) -> str:
    return "-" if math.isnan(found.estimate) else shown(found)
