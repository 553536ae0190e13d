"""Questions of a recorded cell with their pictures, from the prepared table that it was asked from."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reliabit.data.prepared_table import is_prepared, load_split, table_folder
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.sweep_report import Asked


def pictures_of(cell: Cell, keys: Sequence[str], *, tables: Path) -> Mapping[str, Asked]:
    """Find questions of the reported split; none where the prepared table is not at hand, which is not made anew here.

    Args:
        cell: What was asked.
        keys: The questions, see `reliabit.evaluation.sweep_report.questions.question_keys`.
        tables: The folder of prepared tables.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        data = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), cell.config["data"]))
        if not isinstance(data, DataConfig):
            raise TypeError("the schema decides the type of a configuration")
        if not is_prepared(data, root=tables):
            raise ReliabitError(f"{tables} does not hold the table of {data.called()}")
        table = load_split(table_folder(data, root=tables), cell.config["evaluation"]["reported"])
    except (ReliabitError, OmegaConfBaseException) as error:
        sys.stderr.write(f"the report shows no pictures of {cell.place}: {error}\n")
        return {}
    asked = zip(table["source"], table["question_id"], strict=True)
    rows = {f"{source}/{question}": row for row, (source, question) in enumerate(asked)}
    found = {key: table[rows[key]] for key in keys if key in rows}
    return {key: Asked(image=row["image"], references=row["answers"]) for key, row in found.items()}
