"""The cells of a sweep measured together, and what that says of each cell with each confidence on each set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.confidences import ConfidenceMeasurement, measurement_of, resample_answers
from reliabit.evaluation.prediction_columns import (
    CONFIDENCE_PREFIX,
    MAXPROB,
    THRESHOLDS,
    ScoredAnswers,
    check_not_fitted_on,
    check_same_questions,
    reported_rows,
    scored_answers,
    thresholds_of,
)
from reliabit.evaluation.resampled import Resampled
from reliabit.evaluation.sets import IN_DOMAIN, EvaluationSet, evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.metrics.bootstrap import Bootstrap
from reliabit.metrics.definitions import ACCURACY, AURC, SURE, confidently_wrong, coverage_at, ece, phi
from reliabit.metrics.metric import Metric
from reliabit.metrics.suite import headline_suite

TABLE = (
    ACCURACY,
    ece(15),
    coverage_at(0.005),
    coverage_at(0.01),
    coverage_at(0.05),
    AURC,
    phi(10),
    phi(100),
    confidently_wrong(SURE),
)
"""The columns of the paper's table, and how many answers are confidently wrong."""

DIFFERENCES = (coverage_at(0.01), AURC)
"""The metrics in which a confidence is compared with MaxProb."""


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """All cells of one model on all sets.

    Attributes:
        model: Its name.
        cells: The unquantized one, then from wide to narrow, quantizers of one width side by side.
        sets: The sets by name, as positions among the reported rows, which all cells share.
        drawn: The bootstrap of each set, over cells and confidences; see `key`.
        settings: How they were measured.
    """

    model: str
    cells: Sequence[Cell]
    sets: Mapping[str, EvaluationSet]
    drawn: Mapping[str, Bootstrap]
    settings: EvaluationConfig

    @property
    def unquantized(self) -> Cell | None:
        """The cell that the others are compared with, if it was measured."""
        return next((cell for cell in self.cells if cell.unquantized), None)

    @property
    def quantized(self) -> list[Cell]:
        """The other cells."""
        return [cell for cell in self.cells if not cell.unquantized]

    def find(self, quantizer: str, bits: int) -> Cell | None:
        """One of the cells, if it was measured."""
        return next((cell for cell in self.cells if (cell.quantizer, cell.bits) == (quantizer, bits)), None)

    def resampled(self, cell: Cell, confidence: str, metric: Metric, *, set_name: str) -> Resampled:
        """A metric of one cell and confidence on a set, paired with all others on that set."""
        drawn, name = self.drawn[set_name], key(cell, confidence)
        return Resampled(drawn.estimates[name][metric.name], drawn.replicates[name][metric.name])


def key(cell: Cell, confidence: str) -> str:
    """How the bootstraps of a model name a cell with one of its confidences."""
    return f"{cell.quantization}, {confidence}"


def mixture_of(set_name: str) -> str:
    """What is mixed in a mixture.

    >>> mixture_of("visual_mix_33")
    'visual'
    """
    return set_name.rpartition("_mix_")[0]


def measure_models(cells: Sequence[Cell], settings: EvaluationConfig) -> list[MeasuredModel]:
    """Measure the cells of each model on its reported questions, each shift of them and their mixtures.

    Args:
        cells: In any order.
        settings: The split that reports, mixtures, resamples and seed; risks, costs and bins are those of the paper.

    Returns:
        One a model, in order of appearance.

    Raises:
        ReliabitError: There are no cells, one is there twice or lacks MaxProb, cells of a model were not asked the same
            questions, or an estimator has seen an image that it would be judged by.
    """
    if not cells:
        raise ReliabitError("there is no cell to report on; finish at least one cell of the sweep")
    models = dict.fromkeys(cell.model_name for cell in cells)
    return [_measure([cell for cell in cells if cell.model_name == model], settings) for model in models]


def _measure(cells: Sequence[Cell], settings: EvaluationConfig) -> MeasuredModel:
    import pyarrow.compute as pc

    ordered = sorted(cells, key=lambda cell: (not cell.unquantized, -cell.bits, cell.quantizer))
    _check_cells(ordered, split=settings.reported)
    answers: dict[str, ScoredAnswers] = {}
    thresholds: dict[str, dict[float, float]] = {}
    parts: list[EvaluationSet] = []
    for cell in ordered:
        reported = cell.answers.filter(pc.equal(cell.answers["split"], settings.reported))
        # The questions of all cells are the same, and so are their sets.
        parts = parts or evaluation_sets(reported, settings)
        for name in cell.confidences:
            answers[key(cell, name)] = scored_answers(reported, name)
            thresholds[key(cell, name)] = thresholds_of(cell.answers, name, suite=headline_suite())
    drawn = {}
    for part in parts:
        taken = {name: found.take(part.rows) for name, found in answers.items()}
        drawn[part.name] = resample_answers(taken, thresholds, suite=headline_suite(), settings=settings)
    return MeasuredModel(ordered[0].model_name, ordered, {part.name: part for part in parts}, drawn, settings)


def _check_cells(cells: Sequence[Cell], *, split: str) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.quantization in seen:
            raise ReliabitError(
                f"{seen[cell.quantization].name} and {cell.name} are both {cell.model_name}, {cell.quantization}; "
                "report on one of them"
            )
        seen[cell.quantization] = cell
        if MAXPROB not in cell.confidences:
            raise ReliabitError(f"{cell.name} has no column {CONFIDENCE_PREFIX}{MAXPROB}; answer its questions again")
        reported_rows(cell.answers, split)
        for confidence in cell.confidences:
            check_not_fitted_on(cell.answers, confidence, split=split)
    check_same_questions({cell.name: cell.answers for cell in cells}, splits=(split, THRESHOLDS))


@dataclass(frozen=True, eq=False)
class PaperRow:
    """One cell with one confidence on one set.

    Attributes:
        cell: The cell.
        measured: The metrics of `TABLE` and the paired differences to MaxProb, each with its own interval.
    """

    cell: Cell
    measured: ConfidenceMeasurement


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
                names = key(cell, MAXPROB), key(cell, confidence)
                yield PaperRow(
                    cell,
                    measurement_of(
                        part, confidence, drawn, names=names, metrics=TABLE, compared=DIFFERENCES, level=level
                    ),
                )
