"""Which questions the page shows with their pictures, and what each configuration said to them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.prediction_columns import (
    CONFIDENCE_PREFIX,
    MAXPROB,
    image_keys,
    reported_rows,
    scored_answers,
)
from reliabit.evaluation.sweep_report.curves import Json
from reliabit.evaluation.sweep_report.pictures import Illustrate, question_key, thumbnail
from reliabit.metrics.definitions import SURE
from reliabit.metrics.functional.calibration import confidently_wrong_parts

if TYPE_CHECKING:
    import pyarrow as pa

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

RIGHT = 0.5
"""The soft accuracy from which on an answer counts as right, as in `reliabit.metrics.functional.confidently_wrong`."""

FLIPS = 6
"""Questions that each configuration's gallery shows at most."""

SPREAD = 24
"""Questions beside those, equally spaced from the surest answer to the least sure."""

TEXT = 300
"""Characters of a question or an answer that are shown."""


def question_keys(rows: "pa.Table") -> list[str]:
    """What each row asks, see `question_key`."""
    return list(map(question_key, rows["source"].to_pylist(), rows["question_id"].to_pylist()))


def flipped(before: "pa.Table", after: "pa.Table") -> Rows:
    """Rows that one configuration answers rightly and another wrongly though surely (MaxProb), the surest first.

    Args:
        before: The rows of the first, such as the unquantized model.
        after: The same questions, answered by the other.
    """
    sure = scored_answers(after, MAXPROB)
    right = scored_answers(before, MAXPROB).accuracy >= RIGHT
    rows = np.flatnonzero(right & (confidently_wrong_parts(sure.confidence, sure.accuracy, SURE) > 0))
    return rows[np.argsort(-sure.confidence[rows], kind="stable")]


def spread(rows: "pa.Table", *, count: int) -> Rows:
    """Rows at equal steps from the surest answer to the least sure, each of another image where there are enough.

    A step that falls on an image that is shown already goes to the nearest row of another one.
    """
    order = np.argsort(-scored_answers(rows, MAXPROB).confidence, kind="stable")
    images = image_keys(rows)
    steps = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64))
    shown: set[str] = set()
    taken = set()
    for step in steps.tolist():
        place = next((at for at in _outward(step, len(order)) if images[order[at]] not in shown), step)
        shown.add(images[order[place]])
        taken.add(place)
    return np.asarray(order[sorted(taken)], dtype=np.int64)


def _outward(start: int, end: int) -> Iterator[int]:
    """Every position from 0 up to an end, the nearest to a start first."""
    for distance in range(end):
        near = {start - distance, start + distance}
        yield from sorted(at for at in near if 0 <= at < end)


def shown_questions(
    cells: Sequence[Cell], *, reported: str, confidences: Sequence[str], illustrate: Illustrate, most: int
) -> tuple[list[Json], list[Json], dict[str, str]]:
    """The questions of a page, the galleries of questions that flipped, and all pictures.

    Args:
        cells: Cells that were asked the same, an unquantized one first if there is one.
        reported: The split that reports.
        confidences: Those whose values are shown.
        illustrate: Finds the pictures.
        most: How many questions are shown in all.

    Returns:
        One entry a question; one entry a configuration, with `count` and the `shown` questions by their number, empty
        where nothing unquantized is compared with; and pictures as addresses of data, by their name.
    """
    tables = [reported_rows(cell.answers, reported) for cell in cells]
    flips = [flipped(tables[0], table) for table in tables[1:]] if cells and cells[0].unquantized else []
    chosen = _chosen(spread(tables[-1], count=SPREAD), flips, most=most)
    keys = question_keys(tables[0])
    found = illustrate(cells[0], [keys[row] for row in chosen])
    pictures: dict[str, str] = {}
    questions = []
    images = image_keys(tables[0])
    for row in chosen:
        asked = found.get(keys[row])
        if asked is not None and images[row] not in pictures:
            pictures[images[row]] = thumbnail(asked.image, item=keys[row])
        questions.append(
            {
                "question": _cut(tables[0]["question"][row].as_py()),
                "kind": tables[0]["question_type"][row].as_py(),
                "picture": images[row] if asked is not None else None,
                "references": _common(asked.references) if asked is not None else [],
                "said": [_said(table, row, confidences) for table in tables],
            }
        )
    place = {row: number for number, row in enumerate(chosen)}
    galleries = [
        {"count": len(rows), "shown": [place[row] for row in rows.tolist()[:FLIPS] if row in place]} for rows in flips
    ]
    return questions, galleries, pictures


def _chosen(ranked: Rows, flips: Iterable[Rows], *, most: int) -> list[int]:
    """The spread questions, then those that flipped, a configuration after the other, so that each has some."""
    chosen = dict.fromkeys(ranked.tolist())
    shown = [rows.tolist()[:FLIPS] for rows in flips]
    for number in range(FLIPS):
        for rows in shown:
            if number < len(rows) and len(chosen) < most:
                chosen.setdefault(rows[number])
    return list(chosen)[:most]


def _said(table: "pa.Table", row: int, confidences: Sequence[str]) -> list[Any]:
    """Answer, accuracy and confidences; a confidence keeps the digits that a threshold may fall between."""
    values = [table[f"{CONFIDENCE_PREFIX}{name}"][row].as_py() for name in confidences]
    shown = [None if value is None else float(f"{value:.7g}") for value in values]
    return [_cut(table["answer"][row].as_py()), round(float(table["accuracy"][row].as_py()), 3), *shown]


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[: TEXT - 1]}…"


def _common(references: Sequence[str]) -> list[str]:
    """The three most frequent references, in their order where equally frequent."""
    counts = {one: list(references).count(one) for one in dict.fromkeys(references)}
    return [_cut(one) for one in sorted(counts, key=lambda one: -counts[one])[:3]]
