"""The columns and splits of a predictions table: `val` chooses, `cal` certifies, metrics are of `evaluation.reported`.

An estimator that was fitted carries the images that it has seen; reporting or certifying on one of them is an error.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reliabit.confidence.leakage import FittedOn, check_unseen
from reliabit.data.splits import image_key
from reliabit.errors import ReliabitError
from reliabit.inference.predictions import NO_SHIFT
from reliabit.metrics import Predictions, Suite

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

THRESHOLDS, CERTIFIED = "val", "cal"
"""The split that chooses thresholds, and the one that certifies them."""

MAXPROB = "maxprob"
"""The confidence that every table has and all others are compared with."""

CONFIDENCE_PREFIX = "conf_"
SEED_PREFIX = "seed_"
"""Columns of confidences, and of the same estimator trained with other seeds."""

FITTED_ON = b"reliabit.fitted_on"
"""Where the table's metadata says which images each estimator has seen."""


@dataclass(frozen=True, eq=False)
class ScoredAnswers:
    """Answers with one confidence, as arrays of shape `(N,)`.

    Attributes:
        confidence: How sure the model is.
        accuracy: How right it is.
        images: The image of each question, as `source/image_id`.
    """

    confidence: "np.ndarray[Any, Any]"
    accuracy: "np.ndarray[Any, Any]"
    images: list[str]

    def take(self, rows: "np.ndarray[Any, Any]") -> "ScoredAnswers":
        """Some of the answers."""
        return ScoredAnswers(self.confidence[rows], self.accuracy[rows], [self.images[row] for row in rows])


def confidences_of(predictions: "pa.Table") -> list[str]:
    """The confidences that a table holds."""
    return [
        name.removeprefix(CONFIDENCE_PREFIX) for name in predictions.column_names if name.startswith(CONFIDENCE_PREFIX)
    ]


def seeds_of(predictions: "pa.Table", confidence: str) -> list[str]:
    """The columns of the same estimator trained with other seeds."""
    own = re.compile(rf"{SEED_PREFIX}{re.escape(confidence)}_\d+")
    return [name for name in predictions.column_names if own.fullmatch(name)]


def rows_of(predictions: "pa.Table", split: str, *, shift: str = NO_SHIFT) -> "pa.Table":
    """The rows of a split, asked as they are or under a shift."""
    import pyarrow.compute as pc

    return predictions.filter(pc.and_(pc.equal(predictions["split"], split), pc.equal(predictions["shift"], shift)))


def scored_answers(rows: "pa.Table", confidence: str) -> ScoredAnswers:
    """The answers of some rows with one confidence, or with another column of confidences by its full name."""
    column = confidence if confidence.startswith(SEED_PREFIX) else f"{CONFIDENCE_PREFIX}{confidence}"
    return ScoredAnswers(
        confidence=rows[column].to_numpy(), accuracy=rows["accuracy"].to_numpy(), images=image_keys(rows)
    )


def image_keys(rows: "pa.Table") -> list[str]:
    """The image of each row; see `reliabit.data.splits`."""
    return [
        image_key(source, image)
        for source, image in zip(rows["source"].to_pylist(), rows["image_id"].to_pylist(), strict=True)
    ]


def reported_rows(predictions: "pa.Table", split: str) -> "pa.Table":
    """The rows to report on, asked as they are.

    Raises:
        ReliabitError: There are none.
    """
    rows = rows_of(predictions, split)
    if not rows.num_rows:
        raise ReliabitError(f"the predictions table has no rows of the split {split}; answer that split as well")
    return rows


def thresholds_of(predictions: "pa.Table", confidence: str, *, suite: Suite) -> dict[float, float]:
    """The thresholds that `val` chooses for a confidence, by cost; none where it was not asked."""
    rows = rows_of(predictions, THRESHOLDS)
    if not rows.num_rows:
        return {}
    chosen = scored_answers(rows, confidence)
    return suite.fit_thresholds(chosen.confidence, chosen.accuracy)


def metric_inputs(
    predictions: "pa.Table", confidence: str, *, split: str, suite: Suite
) -> tuple[Predictions, ScoredAnswers]:
    """What the metrics need of one confidence: the reported rows, and thresholds that `val` chose.

    Raises:
        ReliabitError: The table lacks the split, or the estimator has seen one of its images.
    """
    check_not_fitted_on(predictions, confidence, split=split)
    answers = scored_answers(reported_rows(predictions, split), confidence)
    thresholds = thresholds_of(predictions, confidence, suite=suite)
    return Predictions(answers.confidence, answers.accuracy, thresholds), answers


def check_not_fitted_on(predictions: "pa.Table", confidence: str, *, split: str) -> None:
    """Check that an estimator has seen no image that reports on it or certifies it.

    Raises:
        ReliabitError: It has.
    """
    import pyarrow.compute as pc

    fitted_on = fitted_on_of(predictions).get(confidence)
    if fitted_on is None:
        return
    for role in (split, CERTIFIED):
        rows = predictions.filter(pc.equal(predictions["split"], role))
        check_unseen(fitted_on, image_keys(rows), what=f"the split {role}, which judges {confidence}")


def with_fitted_on(predictions: "pa.Table", fitted_on: Mapping[str, FittedOn]) -> "pa.Table":
    """Record in a table's metadata which images each estimator has seen, beside those recorded there already."""
    every = {**fitted_on_of(predictions), **fitted_on}
    record = json.dumps({name: asdict(seen) for name, seen in every.items()})
    return predictions.replace_schema_metadata({**(predictions.schema.metadata or {}), FITTED_ON: record})


def fitted_on_of(predictions: "pa.Table") -> dict[str, FittedOn]:
    """Which images each fitted estimator of a table has seen.

    Raises:
        ReliabitError: The table's metadata do not say so as we write it.
    """
    text = (predictions.schema.metadata or {}).get(FITTED_ON, b"{}")
    try:
        return {
            name: FittedOn(trained=tuple(seen["trained"]), chose=tuple(seen["chose"]))
            for name, seen in json.loads(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ReliabitError(
            "the predictions table does not tell which images its estimators have seen "
            f"({FITTED_ON.decode()} among its metadata is damaged); run task=select again"
        ) from error


ASKED = ("source", "split", "shift", "question_id", "image_id")
"""Columns that say what was asked."""


def check_same_questions(tables: "Mapping[str, pa.Table]", *, splits: Sequence[str]) -> None:
    """Check that predictions can be paired, row by row.

    Args:
        tables: Predictions by what messages call them.
        splits: The splits that are compared, asked as they are and under shifts.

    Raises:
        ReliabitError: They were not asked the same questions about the same images in the same order.
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

    asked = table.select(list(ASKED))
    rows = asked.filter(pc.is_in(asked["split"], pa.array(splits)))
    return rows.replace_schema_metadata().combine_chunks()
