"""Measured costs on disk, a file a unit, so that budgets share them and a killed search goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliabit.files import read_sealed, replacing, sealed
from reliabit.progress import Step, step
from reliabit.quant.searched.measuring import Cost, CostMeasurement, as_records, from_records
from reliabit.quant.searched.searching import Costs, Widths
from reliabit.quant.searched.units import Assignment

_WHOLE = "whole"


@dataclass
class KeptCosts:
    """What `CostMeasurement` found, kept below a folder; only what is not there is measured.

    Attributes:
        folder: One for each model, calibration set, method and version of the code.
        measurement: Makes the measurement when it is first needed: loading a model takes a while.
        shown: Whether to show how far it is.
    """

    folder: Path
    measurement: Callable[[], CostMeasurement]
    shown: bool = False
    _ready: CostMeasurement | None = None

    def __call__(self, assignment: Assignment, widths: Widths) -> tuple[Cost, Costs]:
        """What an assignment costs, and what it does with one unit at another width; see `searching.Measure`."""
        where = "a plan" if any(assignment.values()) else "the model as it is"
        candidates = sum(map(len, widths.values()))
        with step(f"measuring costs around {where}", total=1 + candidates, unit="candidates", shown=self.shown) as told:
            whole = self._known(assignment, _WHOLE)
            if None not in whole:
                whole = {None: self._measurement_of(assignment).based}
                self._keep(assignment, _WHOLE, whole)
            told.advance()
            units = {unit: self._of_unit(assignment, unit, wanted, told=told) for unit, wanted in widths.items()}
        return whole[None], units

    def _of_unit(
        self, assignment: Assignment, unit: str, widths: Sequence[int | None], *, told: Step
    ) -> dict[int | None, Cost]:
        known = self._known(assignment, unit)
        for width in widths:
            if width not in known:
                known[width] = self._measurement_of(assignment).cost(unit, width)
                self._keep(assignment, unit, known)
            told.advance()
        return {width: known[width] for width in widths}

    def _measurement_of(self, assignment: Assignment) -> CostMeasurement:
        """The measurement with an assignment as its base."""
        if self._ready is None:
            self._ready = self.measurement()
        if self._ready.assignment != assignment:
            self._ready.base(assignment)
        return self._ready

    def _file(self, assignment: Assignment, unit: str) -> Path:
        return self.folder / _digest(assignment) / f"{unit}.json"

    def _known(self, assignment: Assignment, unit: str) -> dict[int | None, Cost]:
        file = self._file(assignment, unit)
        if not file.is_file():
            return {}
        return from_records(read_sealed(file, remedy=f"delete {self.folder} and search again"))

    def _keep(self, assignment: Assignment, unit: str, costs: dict[int | None, Cost]) -> None:
        with replacing(self._file(assignment, unit)) as unfinished:
            unfinished.write_bytes(sealed(as_records(costs), indent=1))


def _digest(assignment: Assignment) -> str:
    return hashlib.sha256(json.dumps(sorted(assignment.items())).encode()).hexdigest()[:12]
