"""What is live, as the cell that it was made of and the terms that it serves at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.registry.pulling import fetch_description
from reliabit.registry.terms import TAG, Terms, terms_of_bundle
from reliabit.tracking.cells import cell_of_run

if TYPE_CHECKING:
    from reliabit.registry.versions import Version
    from reliabit.tracking.tracker import Tracker


@dataclass(frozen=True, eq=False)
class Live:
    """What is live, and how it is compared with.

    Attributes:
        cell: The cell that it was made of.
        terms: What it promises; no policy of today says that.
        stand_in: Where its own cell was measured on other data than the candidate, the same cell of the candidate's
            sweep.
    """

    cell: Cell
    terms: Terms
    stand_in: Cell | None = None

    @property
    def name(self) -> str:
        """What people call its cell."""
        return self.cell.name

    @property
    def fingerprint(self) -> str:
        """The identity of the run that it was made of."""
        return self.cell.fingerprint

    @property
    def measured(self) -> Cell:
        """The cell that is measured in its place."""
        return self.stand_in or self.cell

    @property
    def represented(self) -> bool:
        """Whether another run stands for its own."""
        return self.measured.fingerprint != self.fingerprint

    def on_the_data_of(self, candidate: Cell, sweep: Sequence[Cell]) -> "Live":
        """The same, measured on the data of a candidate if its own run was not and a sweep has its cell.

        Args:
            candidate: The candidate.
            sweep: The cells that were measured together with it.
        """
        if dict(self.cell.inputs) == dict(candidate.inputs):
            return self
        found = [
            one
            for one in sweep
            if one.finished and dict(one.inputs) == dict(candidate.inputs) and one.is_the_cell_of(self.cell)
        ]
        return replace(self, stand_in=found[-1]) if found else self


def live_version(tracker: "Tracker", version: "Version", *, known: Mapping[str, Cell] | None = None) -> Live:
    """Read what is live: the run that it was made of, and the terms that the version itself names.

    Args:
        tracker: Where both are recorded.
        version: The champion.
        known: Cells that were read already, by run; none is read twice.

    Raises:
        ReliabitError: It has no run, or its run or its terms cannot be read.
    """
    if version.run_id is None:
        raise ReliabitError(f"{version.uri} has no run to compare with; promote by hand, or delete it")
    cell = (known or {}).get(version.run_id) or cell_of_run(tracker, version.run_id)
    tag = version.tags.get(TAG)
    # Versions from before there was the tag say it in their bundle alone.
    terms = Terms.from_tag(tag) if tag is not None else terms_of_bundle(fetch_description(tracker, version))
    return Live(cell, terms)
