"""The rates that slices are compared by, and columns as slices: what each question adds, and what it is called."""

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reliabit.data.image_statistics import thirds
from reliabit.evaluation.prediction_columns import ScoredAnswers
from reliabit.metrics.definitions import ACCURACY, SURE, certified_coverage_at, confidently_wrong
from reliabit.metrics.functional.calibration import confidently_wrong_parts
from reliabit.metrics.metric import metric_named

if TYPE_CHECKING:
    from reliabit.metrics.functional.inputs import FloatArray

MANY_VALUES = 20
"""A column of more numbers than this is cut into thirds."""


def slice_rates(answers: ScoredAnswers, threshold: float | None, *, risk: float) -> "dict[str, FloatArray]":
    """What each question adds to each rate, by metric.

    Args:
        answers: The answers, with the confidence that abstains.
        threshold: Answers from here on are given; None leaves coverage out.
        risk: What the threshold is certified for.
    """
    found = {
        ACCURACY.name: answers.accuracy,
        confidently_wrong(SURE).name: confidently_wrong_parts(answers.confidence, answers.accuracy, SURE),
    }
    if threshold is not None:
        found[certified_coverage_at(risk).name] = (answers.confidence >= threshold).astype(float)
    return found


def rate_name(metric: str) -> str:
    """What a rate is called in tables, figures and sentences.

    >>> [rate_name(one) for one in ("accuracy/mean", "certified/coverage_at_5pct_risk")]
    ['accuracy', 'answered']
    """
    if is_coverage(metric):
        return "answered"
    return "confidently wrong" if metric == confidently_wrong(SURE).name else metric_named(metric).phrase


def is_coverage(metric: str) -> bool:
    """Whether a rate is the share that a certified threshold answers."""
    return metric_named(metric).certified


def binned(values: Sequence[Hashable]) -> Sequence[Hashable]:
    """A column as it is, or the thirds of one that holds many numbers; what is no number stays apart.

    >>> binned(["yes", "no", "yes"])
    ['yes', 'no', 'yes']
    >>> binned([str(age) for age in range(30)])[:11]
    ['low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', \
'low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', 'low (to 9.67)', 'medium']
    """
    distinct = set(values)
    if len(distinct) <= MANY_VALUES:
        return values
    numbers = {value: found for value in distinct if (found := _number(value)) is not None}
    if len(numbers) < len(distinct - {"", None}):
        return values
    known = [numbers[value] for value in values if value in numbers]
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    names = iter(thirds(known, (f"low (to {low:.3g})", "medium", f"high (above {high:.3g})")))
    return [next(names) if value in numbers else "none" for value in values]


def _number(value: Hashable) -> float | None:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
