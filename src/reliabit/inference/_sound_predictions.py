"""What a predictions table must be before anything is concluded from it, whoever wrote its file.

Parquet holds any columns of any types. Whatever reads predictions takes for granted that each has its type and a value
in its range, that no question comes twice, and that no image is in two splits, as where we write them ourselves.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reliabit.data.splits import check_disjoint, image_key
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow as pa

JUDGED = ("source", "split", "shift", "question_id", "image_id", "accuracy", "conf_maxprob")
"""Columns that every figure rests on, so that no row may lack them."""

SHARES = ("accuracy", "conf_maxprob", "first_token_prob", "min_token_prob")
"""Columns whose values lie in [0, 1]."""

PREFIXES = ("conf_", "seed_")
"""Of further columns these are confidences, which may be missing in a row, but are numbers where they are not."""


def sound_predictions(table: "pa.Table", columns: Mapping[str, str], *, name: str) -> "pa.Table":
    """Check a predictions table, and give its columns the types that they are written with.

    Args:
        table: As it was read.
        columns: By name the Arrow type of each column that every predictions table has.
        name: What the table is called in messages, such as its file.

    Raises:
        ReliabitError: It is empty or damaged; a column is missing, of another type, or holds a value that it may not;
            a question comes twice; or an image is in two splits.
    """
    try:
        _check_columns(table, columns)
        typed = _typed(table, columns)
        _check_values(typed, columns)
        _check_questions(typed)
        check_disjoint(_images_by_split(typed))
    except ReliabitError as error:
        raise ReliabitError(f"the predictions table {name} cannot be used: {error}") from error
    return typed


def _check_columns(table: "pa.Table", columns: Mapping[str, str]) -> None:
    import pyarrow as pa

    try:
        table.validate(full=True)
        # Names that are no UTF-8 come to light when they are read.
        there = table.column_names
    except (ValueError, pa.ArrowException) as error:
        raise ReliabitError(f"it is damaged ({' '.join(str(error).split())}); run what wrote it again") from error
    missing = [name for name in columns if name not in there]
    if missing:
        raise ReliabitError(f"it lacks {', '.join(missing)}; name a table that task=answer or task=select wrote")
    twice = sorted({name for name in there if there.count(name) > 1})
    if twice:
        raise ReliabitError(f"it has more than one column {', '.join(twice)}; leave one of each")
    if not table.num_rows:
        raise ReliabitError("it holds no predictions; run task=answer on a split that has questions")


def _typed(table: "pa.Table", columns: Mapping[str, str]) -> "pa.Table":
    """The table with the types that its columns are written with, where theirs hold the same values."""
    import pyarrow as pa

    wanted = {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    wanted |= {name: pa.float64() for name in table.column_names if name.startswith(PREFIXES)}
    for number, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        kind = wanted.get(name)
        if kind is None or column.type == kind:
            continue
        try:
            if not _alike(column.type, kind):
                raise pa.ArrowInvalid("it is of another kind")
            table = table.set_column(number, name, column.cast(kind))
        except pa.ArrowException as error:
            raise ReliabitError(f"its column {name} holds {column.type} and not {kind}; write it anew") from error
    return table


def _alike(found: "pa.DataType", wanted: "pa.DataType") -> bool:
    """Whether values of a type can be read as those of another without being understood otherwise."""
    from pyarrow import types

    if types.is_dictionary(found):
        return _alike(found.value_type, wanted)
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    if types.is_string(wanted):
        return any(is_text(found) for is_text in texts)
    return bool(types.is_integer(found) or (types.is_floating(wanted) and types.is_floating(found)))


def _check_values(table: "pa.Table", columns: Mapping[str, str]) -> None:
    import pyarrow.compute as pc
    from pyarrow import types

    for name in JUDGED:
        if table[name].null_count:
            row = pc.index(pc.is_null(table[name]), True).as_py()
            raise ReliabitError(f"its column {name} holds nothing in row {row}; answer that question again")
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not types.is_floating(column.type) or not (name in columns or name.startswith(PREFIXES)):
            continue
        wrong = pc.invert(pc.is_finite(column))
        if name in SHARES:
            wrong = pc.or_(wrong, pc.or_(pc.less(column, 0.0), pc.greater(column, 1.0)))
        row = pc.index(wrong, True).as_py()
        if row >= 0:
            within = "between 0 and 1" if name in SHARES else "a finite number"
            raise ReliabitError(f"its column {name} holds {column[row].as_py()} in row {row}, which is not {within}")


def _check_questions(table: "pa.Table") -> None:
    seen: dict[tuple[Any, ...], int] = {}
    for row, key in enumerate(_rows(table, "source", "shift", "question_id")):
        first = seen.setdefault(key, row)
        if first != row:
            source, shift, question_id = key
            raise ReliabitError(
                f"question {question_id!r} of {source} (shift {shift}) comes twice, in rows {first} and {row}; "
                "leave one of them"
            )


def _images_by_split(table: "pa.Table") -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for split, source, image_id in _rows(table, "split", "source", "image_id"):
        found.setdefault(split, {})[image_key(source, image_id)] = None
    return {split: list(images) for split, images in found.items()}


def _rows(table: "pa.Table", *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
