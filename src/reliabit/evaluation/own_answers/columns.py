"""The columns of somebody's own answers: found by what they are usually called or by name, and checked row by row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.files import RawTable, Values
from reliabit.metrics.functional.inputs import as_accuracy

CALLED = {
    "confidence": ("confidence", "conf", "conf_maxprob", "maxprob", "probability", "prob", "score", "certainty", "p"),
    "correct": ("correct", "is_correct", "accuracy", "acc", "right", "exact_match", "vqa_accuracy"),
    "group": ("group", "group_id", "image", "image_id", "image_path", "picture", "file_name"),
    "split": ("split", "subset"),
    "second": ("second", "second_confidence", "confidence_2", "confidence2", "conf_2", "conf_selector", "selector"),
}
"""What each column may be called, without regard to case; spaces and hyphens count as underscores."""

REQUIRED = ("confidence", "correct")

SPLITS = {
    "train": ("train", "training", "fit"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "cal": ("cal", "calib", "calibration"),
    "test": ("test", "testing", "eval", "evaluation", "report"),
}
"""What each split may be called: `val` chooses, `cal` certifies, `test` reports, and `train` counts for nothing."""

_WORDS = {"true": 1.0, "false": 0.0}

_SHIFT, _NO_SHIFT = "shift", ("none", "", "None")
"""Tables that Reliabit writes hold the same questions under shifts as well."""


@dataclass(frozen=True)
class Columns:
    """Which columns to take, by name; one that is None is looked for by what it is usually called."""

    confidence: str | None = None
    correct: str | None = None
    group: str | None = None
    split: str | None = None
    second: str | None = None


@dataclass(frozen=True, eq=False)
class OwnAnswers:
    """Answers with at least one confidence, N of them.

    Attributes:
        what: What messages call the table.
        confidences: By name of the column, shape `(N,)`; the first decides, a second is compared with it.
        correct: How right each answer is, shape `(N,)` in [0, 1].
        groups: What each answer is about, such as an image; answers about different ones are independent.
        grouped: Whether that was told; otherwise each answer is a group of its own.
        split: `train`, `val`, `cal` or `test` of each answer; None where that was not told.
        columns: What was taken from which column.
        outside: For confidences that are no probabilities, what shows it.
        notes: What was left out, in sentences.
        place: Where a row stands, for messages.
    """

    what: str
    confidences: dict[str, npt.NDArray[np.float64]]
    correct: npt.NDArray[np.float64]
    groups: npt.NDArray[Any]
    grouped: bool
    split: npt.NDArray[np.str_] | None
    columns: dict[str, str]
    outside: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    place: Callable[[int], str] = "row {}".format


def read_columns(table: RawTable, columns: Columns) -> OwnAnswers:
    """Take and check the columns of a table.

    Raises:
        ReliabitError: A column is missing or could be several, there is no row, or a value is none.

    >>> from reliabit.evaluation.own_answers.files import open_table
    >>> read_columns(open_table({"Conf": [0.9, 0.4], "is correct": ["true", "false"]}), Columns()).correct.tolist()
    [1.0, 0.0]
    """
    taken = find_columns(table, columns)
    shifted = [_SHIFT] if _SHIFT in table.names and "conf_maxprob" in table.names else []
    values = table.read(list(dict.fromkeys([*taken.values(), *shifted])))
    kept = np.flatnonzero(np.isin(_texts(values[_SHIFT]), _NO_SHIFT)) if shifted else None
    notes = () if kept is None else (f"rows under a shift are left out: {len(values[_SHIFT]) - len(kept)}",)

    def column(role: str) -> Values:
        found = values[taken[role]]
        return found if kept is None else np.asarray(found)[kept]

    def place(row: int) -> str:
        return table.place(row if kept is None else int(kept[row]))

    if not len(column("correct")):
        raise ReliabitError(f"{table.what} has no row; at least one answer is needed")
    confidences, outside = {}, {}
    for role in ("confidence", "second"):
        if role in taken:
            found = _confidences(column(role), taken[role], place)
            confidences[taken[role]] = found
            wrong = np.flatnonzero((found < 0) | (found > 1))
            if len(wrong):
                outside[taken[role]] = f"{taken[role]} is {found[wrong[0]]:g} in {place(int(wrong[0]))}"
    correct = _correct(column("correct"), taken["correct"], place)
    return OwnAnswers(
        what=table.what,
        confidences=confidences,
        correct=correct,
        groups=_labels(column("group"), taken["group"], place) if "group" in taken else np.arange(len(correct)),
        grouped="group" in taken,
        split=_splits(column("split"), taken["split"], place) if "split" in taken else None,
        columns=taken,
        outside=outside,
        notes=notes,
        place=place,
    )


def find_columns(table: RawTable, columns: Columns) -> dict[str, str]:
    """Which column is taken for what; see `CALLED`.

    Raises:
        ReliabitError: One that was named is not there, or is taken twice; one that is needed is not there; or several
            could be meant.
    """
    taken = {role: name for role in CALLED if (name := _find(table, role, getattr(columns, role))) is not None}
    for role, name in taken.items():
        other = next(one for one in taken if taken[one] == name)
        if other != role:
            raise ReliabitError(f"the column {name} of {table.what} is named as {other} and as {role}; name another")
    return taken


def _find(table: RawTable, role: str, named: str | None) -> str | None:
    there = (
        f"its columns are {', '.join(' '.join(str(name).split()) for name in table.names)}"
        if table.names
        else "it is empty"
    )
    if named is not None:
        if named not in table.names:
            raise ReliabitError(f"{table.what} has no column {named}, which is named as {role}; {there}")
        return named
    plain = {name: str(name).strip().lower().replace(" ", "_").replace("-", "_") for name in table.names}
    found = [name for name in table.names if plain[name] in CALLED[role]]
    exact = [name for name in found if plain[name] == role]
    if len(exact or found) > 1:
        raise ReliabitError(
            f"{table.what} has several columns that could be the {role}: {', '.join(exact or found)}; "
            f"say which with --{role} ({role}= in Python)"
        )
    if found:
        return (exact or found)[0]
    if role in REQUIRED:
        raise ReliabitError(
            f"{table.what} has no column of the {role}, such as {', '.join(CALLED[role][:3])}: {there}; "
            f"name it with --{role} ({role}= in Python)"
        )
    return None


def _numbers(values: Values) -> npt.NDArray[Any]:
    """Values as an array of numbers, of the type they have."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    return array if array.dtype.kind in "biuf" else array.astype(np.float64)


def _each(values: Values, number: Callable[[Any], float]) -> tuple[npt.NDArray[np.float64], Any]:
    """Values as numbers one by one, NaN where one is none."""
    read = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            read[row] = number(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return read, values


def _confidences(values: Values, name: str, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
    try:
        read = _numbers(values).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        read, _ = _each(values, float)
    _one_a_row(read, name)
    _refuse(~np.isfinite(read), values, name, place, "every confidence must be a number")
    return read


def _correct(values: Values, name: str, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
    try:
        read = _numbers(values)
    except (TypeError, ValueError, OverflowError):
        read, _ = _each(values, _share)
    _one_a_row(read, name)
    # Written so that NaN is refused too.
    _refuse(
        ~((read >= 0) & (read <= 1)),
        values,
        name,
        place,
        "it must be 0 or 1, true or false, or a share from 0 to 1",
    )
    return as_accuracy(read)


def _share(value: Any) -> float:
    return _WORDS[word] if (word := str(value).strip().lower()) in _WORDS else float(value)


def _one_a_row(read: npt.NDArray[Any], name: str) -> None:
    if read.ndim != 1:
        raise ReliabitError(f"the column {name} has the shape {read.shape}; it must hold one number a row")


def _refuse(bad: npt.NDArray[np.bool_], values: Values, name: str, place: Callable[[int], str], rule: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        value = values[row].item() if hasattr(values[row], "item") else values[row]
        shown = f"{value:g}" if isinstance(value, float) else repr(value)[:80]
        shown = "missing" if value is None or value == "" else shown
        raise ReliabitError(f"{name} is {shown} in {place(row)}; {rule}")


def _texts(values: Values) -> npt.NDArray[np.str_]:
    return np.array(["" if _is_missing(value) else str(value).strip() for value in values], dtype=np.str_)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _labels(values: Values, name: str, place: Callable[[int], str]) -> npt.NDArray[np.str_]:
    read = _texts(values)
    if (read == "").any():
        raise ReliabitError(f"{name} is missing in {place(int((read == '').argmax()))}; every answer needs one")
    return read


def _splits(values: Values, name: str, place: Callable[[int], str]) -> npt.NDArray[np.str_]:
    known = {word: split for split, words in SPLITS.items() for word in words}
    read = [known.get(text.lower(), "") for text in _texts(values).tolist()]
    if "" in read:
        row = read.index("")
        shown = repr(str(values[row])) if not _is_missing(values[row]) else "missing"
        raise ReliabitError(f"{name} is {shown} in {place(row)}; it must be one of {', '.join(SPLITS)}")
    return np.array(read, dtype=np.str_)


def check_apart(answers: OwnAnswers, splits: Sequence[str] = ("val", "cal", "test")) -> None:
    """Check that no group is in two of the splits that judge.

    Raises:
        ReliabitError: One is, so that they are not independent.
    """
    if answers.split is None or not answers.grouped:
        return
    seen: dict[Any, tuple[str, int]] = {}
    for row, (group, split) in enumerate(zip(answers.groups.tolist(), answers.split.tolist(), strict=True)):
        if split not in splits:
            continue
        before, first = seen.setdefault(group, (split, row))
        if before != split:
            raise ReliabitError(
                f"{answers.columns['group']} {group} is in {before} ({answers.place(first)}) and in {split} "
                f"({answers.place(row)}); no two splits may share one, or nothing can be certified"
            )
