"""Certified thresholds of a predictions table: `val` plans the tests, `cal` decides them, one question an image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reliabit.evaluation.prediction_columns import CERTIFIED, THRESHOLDS, rows_of, scored_answers
from reliabit.metrics import Certificate, certify_threshold

if TYPE_CHECKING:
    import pyarrow as pa


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
