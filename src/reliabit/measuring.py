"""From Python: how far anybody's answers can be trusted, from arrays or a table, and which threshold can be promised.

Each takes plain arguments, and needs no configuration, no tracking store and no model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.columns import Columns, read_columns
from reliabit.evaluation.own_answers.files import open_table
from reliabit.evaluation.own_answers.measuring import certify_answers, measure_answers
from reliabit.evaluation.own_answers.report import RESAMPLES, AnswerReport, Measuring
from reliabit.metrics.certify import Certificate
from reliabit.metrics.functional.inputs import VectorLike

RISKS = (0.01, 0.05, 0.1)


def measure(
    confidence: VectorLike,
    correct: VectorLike,
    *,
    group: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    second: "VectorLike | None" = None,
    risks: Sequence[float] = RISKS,
    delta: float = 0.05,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AnswerReport:
    """Measure answers: every metric with its interval, certified thresholds, and the difference of two confidences.

    The same report as that of `reliabit metrics`, from lists, arrays or tensors of N values each.

    Args:
        confidence: How sure the model was of each answer, higher is surer; calibration needs probabilities.
        correct: How right each answer is: 0 or 1, booleans, or shares from 0 to 1.
        group: What each answer is about, such as its image: the unit of the bootstrap, and of what is certified. By
            default each answer is a group of its own.
        split: `val`, `cal` or `test` of each answer; rows of `test` report, those of `val` plan the tests of thresholds
            and those of `cal` decide them. By default groups are drawn for that, and all rows report.
        second: Another confidence, to be compared with the first on the same answers.
        risks: Risks to certify a threshold for.
        delta: The probability with which each certificate may fail.
        level: Confidence level of intervals.
        resamples: Resamples of the bootstrap.
        seed: Seeds everything that is drawn.

    Returns:
        The report; `print` it, or ask it for `to_dict()`, `markdown()` and `write_figures(folder)`.

    Raises:
        ReliabitError: A value is unusable.

    Example:
        >>> report = measure([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], resamples=50)
        >>> report.measured["confidence"].values["accuracy/mean"].estimate
        0.75
    """
    given = {"confidence": confidence, "correct": correct, "group": group, "split": split, "second": second}
    columns = {name: values for name, values in given.items() if values is not None}
    _check_lengths(columns)
    settings = Measuring(tuple(risks), delta, level, resamples, seed)
    return measure_answers(read_columns(open_table(columns), Columns()), settings)


def evaluate(
    table: Any,
    *,
    confidence: str | None = None,
    correct: str | None = None,
    group: str | None = None,
    split: str | None = None,
    second: str | None = None,
    risks: Sequence[float] = RISKS,
    delta: float = 0.05,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AnswerReport:
    """Measure the answers of a table, see `measure`; columns are found by what they are usually called, or named.

    Args:
        table: The path of a CSV, TSV, JSONL or Parquet file; or a pandas or polars data frame, an Arrow table, a data
            set of the library `datasets`, a mapping of columns, a list of rows, or what `answer` gave.
        confidence: The column of confidences.
        correct: The column that tells how right answers are.
        group: The column that tells what answers are about.
        split: The column that tells what rows are for.
        second: The column of another confidence.
        risks: See `measure`, as for what follows.
        delta: The probability with which each certificate may fail.
        level: Confidence level of intervals.
        resamples: Resamples of the bootstrap.
        seed: Seeds everything that is drawn.

    Raises:
        ReliabitError: The table, a column or a value is unusable; the message names the line or row.

    Example:
        >>> rows = [{"conf": 0.9, "correct": True}, {"conf": 0.4, "correct": False}]
        >>> evaluate(rows, resamples=50).measured["conf"].values["selective/auroc_half"].estimate
        1.0
    """
    settings = Measuring(tuple(risks), delta, level, resamples, seed)
    return measure_answers(
        read_columns(open_table(table), Columns(confidence, correct, group, split, second)), settings
    )


def certify(
    confidence: VectorLike,
    correct: VectorLike,
    *,
    risk: float = 0.05,
    delta: float = 0.05,
    group: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    seed: int = 0,
) -> Certificate:
    """Find the lowest threshold from which answers are wrong at most so often, with a guarantee.

    The confidence must not have been trained or chosen on these answers.

    Args:
        confidence: How sure the model was of each answer, shape `(N,)`.
        correct: How right each answer is, in [0, 1], shape `(N,)`.
        risk: The share of wrong answers that is allowed among those that are accepted.
        delta: The probability with which the guarantee may fail.
        group: What each answer is about, such as its image; one answer of each is used.
        split: `val` or `cal` of each answer: those that plan the tests, and those that decide them. By default half of
            the groups, drawn by the seed, plan.
        seed: Seeds what is drawn.

    Returns:
        The certificate; accept `confidence >= certificate.threshold`, which is infinite where nothing can be promised.

    Raises:
        ReliabitError: A value is unusable, or a split has no rows.

    Example:
        >>> import numpy as np
        >>> sure = np.linspace(1, 0, 4000)
        >>> certificate = certify(sure, sure > 0.3, risk=0.05)
        >>> bool(0.2 < certificate.threshold < 0.4), certificate.n_cal
        (True, 2000)
    """
    given = {"confidence": confidence, "correct": correct, "group": group, "split": split}
    columns = {name: values for name, values in given.items() if values is not None}
    _check_lengths(columns)
    settings = Measuring(risks=(risk,), delta=delta, seed=seed)
    return certify_answers(read_columns(open_table(columns), Columns()), settings)


def _check_lengths(columns: Mapping[str, Any]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    for name, length in lengths.items():
        if length != lengths["confidence"]:
            raise ReliabitError(f"confidence has {lengths['confidence']} values and {name} has {length}")
