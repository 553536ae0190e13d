"""The cells of a recorded sweep as the paper's report takes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.tracking.recorded_predictions import RecordedPredictions
from reliabit.tracking.summary import labels

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.paper import PaperReport


def report_of_sweep(
    runs: "Sequence[Run]", *, predictions: RecordedPredictions, settings: EvaluationConfig
) -> "PaperReport":
    """Build the paper's tables, figures and findings from the predictions that finished cells recorded.

    Args:
        runs: The finished cells.
        predictions: What they recorded.
        settings: Mixtures, resamples, level and seed.

    Raises:
        ReliabitError: A cell has no predictions, or the cells of a model were asked different questions.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.paper import paper_report
    from reliabit.evaluation.paper_measurement import PaperCell

    names = labels(runs)
    # A plan with a width for each component has no place on an axis of widths.
    cells = [
        PaperCell(
            model=run.data.tags["model"],
            quantizer=run.data.tags["quant"],
            bits=int(run.data.tags["bits"]),
            label=names[run.info.run_id],
            predictions=predictions.read(run),
            stored_bytes=int(run.data.metrics["efficiency/stored_bytes"]),
            effective_bits=run.data.metrics["efficiency/effective_bits"],
        )
        for run in runs
        if run.data.tags["bits"].isdigit()
    ]
    return paper_report(cells, settings)
