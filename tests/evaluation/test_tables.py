"""The table of risk-coverage curves says what a sort and a running mean say."""

import csv

import numpy as np
import pytest

from reliabit.evaluation.prediction_columns import ScoredAnswers
from reliabit.evaluation.tables import POINTS, risk_coverage_table


def judged(questions: int, seed: int) -> ScoredAnswers:
    rng = np.random.default_rng(seed)
    # Distinct confidences: every order of the questions is the only one.
    confidence = rng.permutation(questions) / questions
    return ScoredAnswers(confidence, rng.integers(0, 2, questions).astype(float), [f"s/{i}" for i in range(questions)])


def read(text: str) -> dict[str, np.ndarray]:
    heading, *rows = csv.reader(text.splitlines())
    return dict(zip(heading, np.array(rows, dtype=float).T, strict=True))


@pytest.mark.parametrize("questions", [1, 7, POINTS, 3001])
def test_every_row_is_a_point_of_every_curve(questions):
    answers = {"maxprob": judged(questions, 0), "selector": judged(questions, 1)}
    columns = read(risk_coverage_table(answers))
    assert list(columns) == ["coverage", "maxprob", "selector"]
    assert len(columns["coverage"]) == min(POINTS, questions)
    assert columns["coverage"][-1] == 1
    kept = np.round(columns["coverage"] * questions).astype(int)
    for name, found in answers.items():
        losses = 1 - found.accuracy[np.argsort(-found.confidence)]
        risk = np.cumsum(losses) / np.arange(1, questions + 1)
        np.testing.assert_allclose(columns[name], risk[kept - 1], rtol=1e-5)
