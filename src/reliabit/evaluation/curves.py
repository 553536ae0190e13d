"""The risk-coverage curves of several confidences as one small table, for charts."""

import csv
from collections.abc import Mapping
from io import StringIO

import numpy as np

from reliabit.evaluation.roles import Judged
from reliabit.metrics.functional import risk_coverage_curve

POINTS = 200
"""Rows of the table at most: a curve has as many points as there are questions, and no chart shows them."""


def risk_coverage_table(answers: Mapping[str, Judged], *, points: int = POINTS) -> str:
    """Selective risk by coverage as CSV, both as fractions: the column `coverage`, and one for each confidence.

    Args:
        answers: The same answers with each confidence, by its name.
        points: Rows at most, evenly spaced in coverage; each is a point of the curve, and full coverage is the last.

    Example:
        >>> surest_right = Judged(np.array([0.9, 0.1]), np.array([1.0, 0.0]), ["s/a", "s/b"])
        >>> print(risk_coverage_table({"maxprob": surest_right}), end="")
        coverage,maxprob
        0.5,0
        1,0.5
    """
    curves = {name: risk_coverage_curve(found.confidence, found.accuracy) for name, found in answers.items()}
    coverage = next(iter(curves.values())).coverage
    shown = np.unique(np.linspace(0, len(coverage) - 1, min(points, len(coverage))).round().astype(int))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["coverage", *curves])
    for row in shown:
        writer.writerow([f"{value:.6g}" for value in (coverage[row], *(found.risk[row] for found in curves.values()))])
    return text.getvalue()
