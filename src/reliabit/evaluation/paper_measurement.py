"""The cells of a sweep measured together: one bootstrap for each model and set of questions, over all its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.contrasts import Resampled
from reliabit.evaluation.headline import SUITE
from reliabit.evaluation.pairing import check_same_questions
from reliabit.evaluation.roles import (
    MAXPROB,
    PREFIX,
    THRESHOLDS,
    Judged,
    check_roles,
    judged,
    reported_rows,
    thresholds_of,
)
from reliabit.evaluation.sets import EvaluationSet, evaluation_sets
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.metrics import Predictions
from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """All cells of one model on all sets.

    Attributes:
        model: Its name.
        cells: The unquantized one, then from wide to narrow, quantizers of one width side by side.
        sets: The sets by name, as positions among the reported rows, which all cells share.
        drawn: The bootstrap of each set, over cells and confidences; see `key`.
    """

    model: str
    cells: Sequence[Cell]
    sets: Mapping[str, EvaluationSet]
    drawn: Mapping[str, Bootstrap]

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

    def resampled(self, cell: Cell, confidence: str, metric: str, *, set_name: str) -> Resampled:
        """A metric of one cell and confidence on a set, paired with all others on that set."""
        drawn, name = self.drawn[set_name], key(cell, confidence)
        return Resampled(drawn.estimates[name][metric], drawn.replicates[name][metric])


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
    answers: dict[str, Judged] = {}
    thresholds: dict[str, dict[float, float]] = {}
    parts: list[EvaluationSet] = []
    for cell in ordered:
        reported = cell.answers.filter(pc.equal(cell.answers["split"], settings.reported))
        # The questions of all cells are the same, and so are their sets.
        parts = parts or evaluation_sets(reported, settings)
        for name in cell.confidences:
            answers[key(cell, name)] = judged(reported, name)
            thresholds[key(cell, name)] = thresholds_of(cell.answers, name, suite=SUITE)
    drawn = {part.name: _draw(part, answers, thresholds, settings) for part in parts}
    return MeasuredModel(ordered[0].model_name, ordered, {part.name: part for part in parts}, drawn)


def _draw(
    part: EvaluationSet,
    answers: Mapping[str, Judged],
    thresholds: Mapping[str, Mapping[float, float]],
    settings: EvaluationConfig,
) -> Bootstrap:
    taken = {name: found.take(part.rows) for name, found in answers.items()}
    return cluster_bootstrap(
        {name: Predictions(found.confidence, found.accuracy, thresholds[name]) for name, found in taken.items()},
        next(iter(taken.values())).images,
        suite=SUITE,
        n_resamples=settings.resamples,
        seed=settings.seed,
    )


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
            raise ReliabitError(f"{cell.name} has no column {PREFIX}{MAXPROB}; answer its questions again")
        reported_rows(cell.answers, split)
        for confidence in cell.confidences:
            check_roles(cell.answers, confidence, split=split)
    check_same_questions({cell.name: cell.answers for cell in cells}, splits=(split, THRESHOLDS))
