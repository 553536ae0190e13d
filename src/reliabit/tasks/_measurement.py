"""Everything that a run measures; the code that this module reaches is part of the run's identity.

What records a run, draws it or says where it is carried out is left to whoever calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.evaluation.report import Report, build_report
from reliabit.inference.features import FEATURES
from reliabit.progress import step
from reliabit.tasks._asked_questions import BAD_SAMPLES
from reliabit.tasks._cell import efficiency
from reliabit.tasks._model import QuantizedCheckpoint
from reliabit.tasks._served import ServedCheckpoint
from reliabit.tasks.answer import answer_as_configured
from reliabit.tasks.select import Selected, fit_estimators

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class CellMeasurement:
    """What was measured of a configuration.

    Attributes:
        selected: The predictions with every confidence, and the Selectors that were trained.
        report: What they come to.
        efficiency: What the configuration costs, by metric.
    """

    selected: Selected
    report: Report
    efficiency: dict[str, float]

    def recorded(self) -> dict[str, float]:
        """Every number, as a run records them."""
        return {**self.report.recorded(), **self.selected.recorded(), **self.efficiency}


def measure(
    config: Config,
    *,
    folder: Path,
    loaded: Callable[[QuantizedCheckpoint | ServedCheckpoint], None],
    logger_of: "Callable[[str], Logger]",
) -> CellMeasurement:
    """Quantize, answer, select and evaluate.

    Args:
        config: The configuration.
        folder: Where the list of what is not asked goes, and features if an estimator reads them.
        loaded: Is told of the model before it answers.
        logger_of: Gives the logger of a training by the estimator's name.
    """
    features = folder / FEATURES
    model, answered = answer_as_configured(config, features=features, listed_in=folder / BAD_SAMPLES, loaded=loaded)
    selected = fit_estimators(config, answered.predictions, features=features, logger_of=logger_of)
    with step("measuring, with intervals", shown=config.trainer.progress_bar):
        report = build_report(selected.predictions, config.evaluation)
    return CellMeasurement(selected=selected, report=report, efficiency=efficiency(config, model, answered))
