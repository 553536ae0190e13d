"""What stages leave of how the questions of a cell were answered, for the run that is recorded of it later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.files import read_sealed, replacing, sealed

ANSWERED = "answered.json"
"""The name of the file in a cell's folder."""

FORMAT = 2
"""2: sealed, so that a changed figure is noticed."""

REMEDY = "bring it up to date with dvc repro"

KERNELS = "kernels.json"
"""The name of the file of a run that says what multiplied by the weight of each quantized layer."""


@dataclass(frozen=True)
class CellRecord:
    """What was asked of which model, and at what cost.

    Attributes:
        name: The run's name.
        tags: What runs are filtered by.
        config: The configuration, without where it was run.
        table: The prepared table that was asked, relative to the project.
        efficiency: What it cost, by metric.
        kernels: What multiplied by the weight of each quantized layer, by its name.
    """

    name: str
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    table: str
    efficiency: Mapping[str, float]
    kernels: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Leave it in a cell's folder."""
        with replacing(folder / ANSWERED) as unfinished:
            unfinished.write_bytes(sealed({"format": FORMAT, **asdict(self)}, indent=1))


def kernels_text(kernels: Mapping[str, str]) -> str:
    """The text of `KERNELS`.

    >>> print(kernels_text({"lm_head": "eager"}), end="")
    {
     "lm_head": "eager"
    }
    """
    return json.dumps(dict(kernels), indent=1) + "\n"


def read_cell_record(folder: Path) -> CellRecord:
    """What a cell's folder says of how its questions were answered.

    Raises:
        DamagedError: It is missing, or not as it was written.
        ReliabitError: It is of another format.
    """
    path = folder / ANSWERED
    written = read_sealed(path, remedy=REMEDY)
    missing = [field.name for field in fields(CellRecord) if field.name not in written]
    if missing or written.get("format") != FORMAT:
        lacking = f"lacks {', '.join(missing)}" if missing else f"is of format {written.get('format')}"
        raise ReliabitError(f"{path} {lacking}; {REMEDY}")
    return CellRecord(**{field.name: written[field.name] for field in fields(CellRecord)})
