"""Columns of the source's own table that `evaluation.slices` names: checked before a model is loaded, then joined."""

from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.data.further_columns import further_names, read_further
from reliabit.data.prepared_table import prepare
from reliabit.errors import ReliabitError
from reliabit.inference.predictions import COLUMNS, TOLD_BY_ENGINES

if TYPE_CHECKING:
    import pyarrow as pa


def sliced_columns(config: Config) -> list[str]:
    """The columns to slice by that every predictions table lacks, so that they have to come from the source."""
    return [name for name in dict.fromkeys(config.evaluation.slices) if name not in {*COLUMNS, *TOLD_BY_ENGINES}]


def check_sliced(config: Config) -> None:
    """Check that the source has the columns to slice by.

    Raises:
        ReliabitError: It lacks some.
    """
    wanted = sliced_columns(config)
    if not wanted:
        return
    there = further_names(prepare(config.data, root=Path(config.paths.data)))
    missing = [name for name in wanted if name not in there]
    if missing:
        has = f"has the further columns {', '.join(there)}" if there else "has no further columns"
        raise ReliabitError(
            f"evaluation.slices names {', '.join(missing)}, and {config.data.called()} {has}; slice by those, or by "
            "what every predictions table has, such as question_type (sweeps slice by what pictures are like unasked)"
        )


def with_sliced_columns(config: Config, predictions: "pa.Table") -> "pa.Table":
    """Add the columns to slice by that come from the source; questions of other sets hold an empty text."""
    import pyarrow as pa

    wanted = sliced_columns(config)
    if not wanted:
        return predictions
    known = read_further(prepare(config.data, root=Path(config.paths.data)), wanted)
    asked = list(zip(predictions["shift"].to_pylist(), predictions["question_id"].to_pylist(), strict=True))
    for name in wanted:
        # Another set may have the same ids.
        values = ["" if shift in config.other_data else known[name].get(key, "") for shift, key in asked]
        predictions = predictions.append_column(name, pa.array(values, pa.string()))
    return predictions
