"""The cells of a sweep measured together: one bootstrap for each model and set of questions, over all its cells."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.errors import ReliabitError
from reliabit.evaluation.contrasts import Resampled
from reliabit.evaluation.headline import SUITE
from reliabit.evaluation.roles import (
    MAXPROB,
    PREFIX,
    THRESHOLDS,
    Judged,
    check_roles,
    confidences_of,
    judged,
    reported_rows,
    thresholds_of,
)
from reliabit.evaluation.sets import EvaluationSet, evaluation_sets
from reliabit.metrics import Predictions
from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap

if TYPE_CHECKING:
    import pyarrow as pa

UNQUANTIZED = "none"
"""The quantizer of the cell that the others of its model are compared with."""

SELECTOR = "selector"
"""The paper's trained confidence."""


@dataclass(frozen=True, eq=False)
class PaperCell:
    """One finished cell of a sweep.

    Attributes:
        model: The name of the model.
        quantizer: `none`, `hqq`, `mbq`, ...
        bits: Bits a weight; 16 for the unquantized model.
        label: The name of the run.
        predictions: Its answers with their confidences, see `reliabit.inference.predictions`.
        stored_bytes: The size of its checkpoint.
        effective_bits: Bits a quantized weight takes with its scales and zeros.
    """

    model: str
    quantizer: str
    bits: int
    label: str
    predictions: "pa.Table"
    stored_bytes: int
    effective_bits: float

    @property
    def name(self) -> str:
        """How tables call it, such as `hqq 4`; `none` for the unquantized model."""
        return self.quantizer if self.quantizer == UNQUANTIZED else f"{self.quantizer} {self.bits}"

    @property
    def confidences(self) -> list[str]:
        """Its confidences: MaxProb, the Selector, then the others."""
        names = confidences_of(self.predictions)
        return sorted(names, key=lambda name: (name != MAXPROB, name != SELECTOR, names.index(name)))


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
    cells: Sequence[PaperCell]
    sets: Mapping[str, EvaluationSet]
    drawn: Mapping[str, Bootstrap]

    @property
    def unquantized(self) -> PaperCell | None:
        """The cell that the others are compared with, if it was measured."""
        return next((cell for cell in self.cells if cell.quantizer == UNQUANTIZED), None)

    @property
    def quantized(self) -> list[PaperCell]:
        """The other cells."""
        return [cell for cell in self.cells if cell.quantizer != UNQUANTIZED]

    def find(self, quantizer: str, bits: int) -> PaperCell | None:
        """One of the cells, if it was measured."""
        return next((cell for cell in self.cells if (cell.quantizer, cell.bits) == (quantizer, bits)), None)

    def resampled(self, cell: PaperCell, confidence: str, metric: str, *, set_name: str) -> Resampled:
        """A metric of one cell and confidence on a set, paired with all others on that set."""
        drawn, name = self.drawn[set_name], key(cell, confidence)
        return Resampled(drawn.estimates[name][metric], drawn.replicates[name][metric])


def key(cell: PaperCell, confidence: str) -> str:
    """How the bootstraps of a model name a cell with one of its confidences."""
    return f"{cell.name}, {confidence}"


def mixture_of(set_name: str) -> str:
    """What is mixed in a mixture.

    >>> mixture_of("visual_mix_33")
    'visual'
    """
    return set_name.rpartition("_mix_")[0]


def measure_models(cells: Sequence[PaperCell], settings: EvaluationConfig) -> list[MeasuredModel]:
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
    models = dict.fromkeys(cell.model for cell in cells)
    return [_measure([cell for cell in cells if cell.model == model], settings) for model in models]


def _measure(cells: Sequence[PaperCell], settings: EvaluationConfig) -> MeasuredModel:
    import pyarrow.compute as pc

    ordered = sorted(cells, key=lambda cell: (cell.quantizer != UNQUANTIZED, -cell.bits, cell.quantizer))
    _check_cells(ordered, split=settings.reported)
    answers: dict[str, Judged] = {}
    thresholds: dict[str, dict[float, float]] = {}
    parts: list[EvaluationSet] = []
    for cell in ordered:
        reported = cell.predictions.filter(pc.equal(cell.predictions["split"], settings.reported))
        # The questions of all cells are the same, and so are their sets.
        parts = parts or evaluation_sets(reported, settings)
        for name in cell.confidences:
            answers[key(cell, name)] = judged(reported, name)
            thresholds[key(cell, name)] = thresholds_of(cell.predictions, name, suite=SUITE)
    drawn = {part.name: _draw(part, answers, thresholds, settings) for part in parts}
    return MeasuredModel(ordered[0].model, ordered, {part.name: part for part in parts}, drawn)


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


def _check_cells(cells: Sequence[PaperCell], *, split: str) -> None:
    seen: dict[str, PaperCell] = {}
    for cell in cells:
        if cell.name in seen:
            raise ReliabitError(
                f"{seen[cell.name].label} and {cell.label} are both {cell.model}, {cell.name}; report on one of them"
            )
        seen[cell.name] = cell
        if MAXPROB not in cell.confidences:
            raise ReliabitError(f"{cell.label} has no column {PREFIX}{MAXPROB}; answer its questions again")
        reported_rows(cell.predictions, split)
        for confidence in cell.confidences:
            check_roles(cell.predictions, confidence, split=split)
    first = _questions(cells[0], splits=(split, THRESHOLDS))
    for cell in cells[1:]:
        if _questions(cell, splits=(split, THRESHOLDS)) != first:
            raise ReliabitError(
                f"{cell.label} and {cells[0].label} were not asked the same questions in the same order, so they "
                "cannot be paired; answer both with the same data settings"
            )


def _questions(cell: PaperCell, *, splits: Iterable[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = cell.predictions.filter(pc.is_in(cell.predictions["split"], pa.array(splits)))
    return rows.select(["source", "split", "shift", "question_id", "image_id"]).replace_schema_metadata()
