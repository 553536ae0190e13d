"""What somebody sees of their own data before a model is asked: counts, three samples, and what so few can say."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reliabit.data.image_decoding import image_size

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLES = 3

CERTIFIABLE = 59
"""Right answers in a row that certify a risk of 5 % at the 95 % level: the fewest, ln 0.05 / ln 0.95."""

_SHOWN = 60
"""Letters of a question that are shown."""


def preview(splits: "Mapping[str, Dataset]", *, called: str, told: Sequence[str]) -> str:
    """The preview of a prepared table, of lines.

    Args:
        splits: The VQA table of each split.
        called: What the data set is called.
        told: What its source says of how it was read.
    """
    questions = {name: len(table) for name, table in splits.items()}
    images = {name: len(set(table["image_id"])) for name, table in splits.items()}
    each = ", ".join(f"{name}: {questions[name]} about {images[name]}" for name in splits)
    kinds = [f"answers: {_counts(_column(splits, 'answer_type'))}"]
    types = _column(splits, "question_type")
    if any(types):
        kinds.append(f"types: {_counts(types)}")
    lines = [
        f"{called}: {sum(questions.values())} questions about {sum(images.values())} pictures ({each})",
        *told,
        *kinds,
        *_samples(splits),
        *limits(
            questions.get("test", 0),
            certifying=images.get("cal", 0),
            training=images.get("dev", 0) if "val" in images else 0,
        ),
    ]
    return "".join(f"{line}\n" for line in [lines[0], *(f"  {line}" for line in lines[1:])])


def limits(questions: int, *, certifying: int, training: int) -> list[str]:
    """What so many questions can say, and what they cannot, a sentence each.

    Args:
        questions: Those of `test`.
        certifying: Pictures of `cal`, of each of which one question counts.
        training: Pictures of `dev`, that a confidence learns from; 0 where there is no `val` to choose it.

    >>> for sentence in limits(20, certifying=0, training=0):
    ...     print(sentence)
    20 test questions tell an accuracy to about ±20 points (at the 95 % level)
    no risk is certified, as there is no cal split
    no confidence is learned, as there is no dev and val: it is the probability of the answer itself (maxprob)
    """
    said = [f"{questions} test questions tell an accuracy to about ±{_points(questions)} points (at the 95 % level)"]
    if not certifying:
        said.append("no risk is certified, as there is no cal split")
    elif certifying < CERTIFIABLE:
        said.append(
            f"{certifying} in cal certify no risk of 5 %: that takes {CERTIFIABLE} pictures, all answered right"
        )
    if not training:
        said.append(
            "no confidence is learned, as there is no dev and val: it is the probability of the answer itself (maxprob)"
        )
    elif training < CERTIFIABLE:
        said.append(f"a confidence that is learned from {training} in dev is hardly one: compare it with maxprob")
    return said


def _points(questions: int) -> int:
    """Half of the interval (E. B. Wilson 1927) of half of the answers being right, at the 95 % level, in per cent."""
    return round(100 * 1.96 / (2 * math.sqrt(questions + 1.96**2)))


def _column(splits: "Mapping[str, Dataset]", name: str) -> list[str]:
    return [value for table in splits.values() for value in table[name]]


def _counts(values: Iterable[str]) -> str:
    common = Counter(values).most_common()
    shown = ", ".join(f"{name or 'none'} {count}" for name, count in common[:6])
    return f"{shown} and {len(common) - 6} more kinds" if len(common) > 6 else shown


def _samples(splits: "Mapping[str, Dataset]") -> list[str]:
    # Of `test` first: it is what is reported.
    ordered = [splits[name] for name in sorted(splits, key=lambda name: name != "test")]
    rows = [table[row] for table in ordered for row in range(min(SAMPLES, len(table)))][:SAMPLES]
    lines = []
    for number, row in enumerate(rows, start=1):
        width, height = image_size(row["image"], item=row["question_id"])
        words = row["question"] if len(row["question"]) <= _SHOWN else f"{row['question'][: _SHOWN - 1]}…"
        answers = ", ".join(dict.fromkeys(row["answers"]))
        lines.append(f"{number}. [{width}×{height}] {' '.join(words.split())} → {answers}")
    return lines
