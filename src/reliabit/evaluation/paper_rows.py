"""What the report of a sweep says of each cell with each confidence on each set of questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.confidences import Measured
from reliabit.evaluation.headline import TABLE
from reliabit.evaluation.paper_measurement import MeasuredModel, key
from reliabit.evaluation.roles import MAXPROB
from reliabit.evaluation.sets import IN_DOMAIN
from reliabit.metrics.bootstrap import Bootstrap
from reliabit.metrics.intervals import Difference

DIFFERENCES = ("selective/coverage_at_1pct_risk", "selective/aurc")
"""The metrics in which a confidence is compared with MaxProb."""


@dataclass(frozen=True, eq=False)
class PaperRow:
    """One cell with one confidence on one set.

    Attributes:
        cell: The cell.
        measured: The metrics of `TABLE` and the paired differences to MaxProb, each with its own interval.
    """

    cell: Cell
    measured: Measured


@dataclass(frozen=True, eq=False)
class PaperRows:
    """All rows, model by model; within a model set by set, cell by cell, confidence by confidence."""

    rows: Sequence[PaperRow]

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        return list(dict.fromkeys(row.cell.model_name for row in self.rows))

    def of(self, model: str, *, set_name: str = IN_DOMAIN) -> list[PaperRow]:
        """The rows of a model on a set."""
        return [row for row in self.rows if (row.cell.model_name, row.measured.set_name) == (model, set_name)]

    def sets(self, model: str, *, kind: str) -> list[str]:
        """The sets of a kind on which a model was measured; see `sets.EvaluationSet`."""
        rows = (row for row in self.rows if row.cell.model_name == model and row.measured.kind == kind)
        return list(dict.fromkeys(row.measured.set_name for row in rows))

    def find(self, model: str, cell: str, confidence: str, *, set_name: str = IN_DOMAIN) -> PaperRow | None:
        """The row of a cell, by its name such as `hqq 4`, if it was measured with this confidence."""
        rows = self.of(model, set_name=set_name)
        return next(
            (row for row in rows if (row.cell.quantization, row.measured.confidence) == (cell, confidence)), None
        )


def paper_rows(models: Sequence[MeasuredModel], *, level: float) -> PaperRows:
    """Read the rows off the bootstraps.

    Args:
        models: What was measured.
        level: Level of the intervals; each holds by itself.
    """
    return PaperRows([row for model in models for row in _rows_of(model, level=level)])


def _rows_of(model: MeasuredModel, *, level: float) -> Iterator[PaperRow]:
    for name, part in model.sets.items():
        drawn = model.drawn[name]
        for cell in model.cells:
            for confidence in cell.confidences:
                estimates = drawn.estimates[key(cell, confidence)]
                measured = Measured(
                    set_name=name,
                    kind=part.kind,
                    shifted_share=part.shifted_share,
                    confidence=confidence,
                    questions=len(part.rows),
                    values={
                        metric: drawn.interval(key(cell, confidence), metric, level=level)
                        for metric in TABLE
                        if metric in estimates
                    },
                    against_maxprob=_against_maxprob(drawn, cell, confidence, level=level),
                )
                yield PaperRow(cell, measured)


def _against_maxprob(drawn: Bootstrap, cell: Cell, confidence: str, *, level: float) -> dict[str, Difference]:
    if confidence == MAXPROB:
        return {}
    names = baseline, other = key(cell, MAXPROB), key(cell, confidence)
    both = Bootstrap({name: drawn.estimates[name] for name in names}, {name: drawn.replicates[name] for name in names})
    return {metric: both.compare(baseline, metric, level=level)[other] for metric in DIFFERENCES}
