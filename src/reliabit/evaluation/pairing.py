"""Whether predictions are about the same questions, so that they can be compared row by row."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow as pa

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
