"""The cells of a recorded sweep as the paper's report takes them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reliabit.config import EvaluationConfig
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.tracking.summary import labels
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

    from reliabit.evaluation.paper import PaperReport


def report_of_sweep(runs: "Sequence[Run]", *, tracker: Tracker, settings: EvaluationConfig) -> "PaperReport":
    """Build the paper's tables, figures and findings from the predictions that finished cells recorded.

    Args:
        runs: The finished cells.
        tracker: Where they are recorded.
        settings: Mixtures, resamples, level and seed.

    Raises:
        ReliabitError: A cell has no predictions, or the cells of a model were asked different questions.
    """
    # Hydra loads this module for every run; scipy, which takes a second to import, is needed by sweeps alone.
    from reliabit.evaluation.paper import paper_report
    from reliabit.evaluation.paper_measurement import PaperCell

    names = labels(runs)
    # A plan with a width for each component has no place on an axis of widths.
    runs = [run for run in runs if run.data.tags["bits"].isdigit()]
    cells = []
    with TemporaryDirectory() as folder:
        for run in runs:
            place = tracker.fetch(run.info.run_id, PREDICTIONS, Path(folder) / run.info.run_id)
            tags, metrics = run.data.tags, run.data.metrics
            cells.append(
                PaperCell(
                    model=tags["model"],
                    quantizer=tags["quant"],
                    bits=int(tags["bits"]),
                    label=names[run.info.run_id],
                    predictions=read_predictions(place),
                    stored_bytes=int(metrics["efficiency/stored_bytes"]),
                    effective_bits=metrics["efficiency/effective_bits"],
                )
            )
    return paper_report(cells, settings)
