"""`task=select`: fit confidence estimators to the answers of `dev`, and say how sure every other answer is."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from reliabit.confidence.estimator import (
    ESTIMATORS,
    Fitting,
)
from reliabit.confidence.estimators.formulas import Formula
from reliabit.confidence.estimators.selectors import Selector
from reliabit.confidence.examples import EXTRA_SCALARS, Examples, FeatureBlocks, examples_of
from reliabit.confidence.leakage import FittedOn
from reliabit.config import Config
from reliabit.data.bad_samples import tell
from reliabit.data.sources import SOURCES
from reliabit.data.splits import check_disjoint
from reliabit.errors import ReliabitError
from reliabit.evaluation.prediction_columns import (
    CONFIDENCE_PREFIX,
    MAXPROB,
    SEED_PREFIX,
    image_keys,
    seeds_of,
    with_fitted_on,
)
from reliabit.files import write_manifest
from reliabit.inference.features import FEATURES, read_features
from reliabit.inference.predictions import NO_SHIFT, PREDICTIONS, read_predictions, with_column, write_predictions
from reliabit.metrics.definitions import AURC
from reliabit.tasks._asked_questions import CHOOSING_SPLIT, TRAINING_SPLIT
from reliabit.tasks._results import next_command
from reliabit.tasks._unquantized import unquantized_answers
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    import pyarrow as pa
    from lightning.pytorch.loggers import Logger

    from reliabit.confidence.estimator import FittedEstimator
    from reliabit.confidence.selector import TrainedSelector

SELECTOR_FOLDER = "selectors"

Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True)
class Cost:
    """What an estimator costs.

    Attributes:
        extra_forwards: Passes of the model beyond the answering one, a question.
        fit_seconds: Time to fit it.
        seconds_per_question: Time to apply it, passes of the model left out.
    """

    extra_forwards: float
    fit_seconds: float
    seconds_per_question: float


@dataclass(frozen=True)
class Selected:
    """What fitting the estimators gave.

    Attributes:
        predictions: The table with a column `conf_<name>` for each, null where the answers trained estimators.
        selectors: The trained Selectors by name.
        costs: What each estimator costs.
    """

    predictions: "pa.Table"
    selectors: "Mapping[str, TrainedSelector]"
    costs: dict[str, Cost]

    def recorded(self) -> dict[str, float]:
        """The costs and validation AURCs as a run records them."""
        values = {
            f"confidence/{key}.{name}": value for name, cost in self.costs.items() for key, value in vars(cost).items()
        }
        return values | {f"confidence/val_aurc.{name}": found.val_aurc for name, found in self.selectors.items()}

    def write(self, folder: Path) -> list[Path]:
        """Write the table and the Selectors; returns the files, and none that was there before."""
        from reliabit.confidence.selector_store import save_selector

        write_predictions(self.predictions, folder / PREDICTIONS)
        written = [folder / PREDICTIONS]
        for name, found in self.selectors.items():
            written += save_selector(found, folder / SELECTOR_FOLDER / name)
        return written


def select(config: Config) -> None:
    """Fit the configured estimators to a predictions table and its features."""
    set_up(config)
    path = Path(config.task.place("predictions"))
    selected = fit_estimators(config, read_predictions(path), features=path.parent / FEATURES)
    output = config.paths.output_folder()
    written = selected.write(output)
    write_manifest(output, written)
    show_result(
        f"{selected.predictions.num_rows} answers with {len(selected.costs)} confidences: {output / PREDICTIONS}",
        [(name, _told(name, selected)) for name in selected.costs],
        then=next_command("task=evaluate", f"task.predictions={output / PREDICTIONS}"),
    )


def _told(name: str, selected: Selected) -> str:
    """What fitting an estimator took, and of a Selector how well it ranks the answers that chose it."""
    found = selected.selectors.get(name)
    ranked = "" if found is None else f", AURC {AURC.text(found.val_aurc)} % on {CHOOSING_SPLIT}"
    return f"{selected.costs[name].fit_seconds:.1f} s to fit{ranked}"


def fit_estimators(
    config: Config, predictions: "pa.Table", *, features: Path, logger_of: "Callable[[str], Logger] | None" = None
) -> Selected:
    """Fit the configured estimators and apply them to every answer that trained none.

    Args:
        config: Which estimators, and how.
        predictions: The answers.
        features: Their features, read if an estimator needs them.
        logger_of: Gives the logger of a training by the estimator's name.

    Raises:
        ReliabitError: Splits share an image, or what an estimator reads is missing.
    """
    check_disjoint(_roles(predictions))
    blocks = read_features(features, predictions=predictions) if config.confidence.needs_features() else None
    asked = np.flatnonzero(np.array(predictions["split"].to_pylist()) != TRAINING_SPLIT)
    evidence = _examples(predictions, blocks, asked)
    families = [
        _fit(config, name, predictions, blocks, logger_of=logger_of)
        for name in _fittable(config, predictions)
        # There is nothing to transfer to the very model that a transferred Selector is trained on.
        if not (ESTIMATORS[name].unquantized and config.quant.method == "none")
    ]
    table = _without(predictions, families)
    costs: dict[str, Cost] = {}
    for family in families:
        for column, estimator in family.columns().items():
            start = time.perf_counter()
            values = estimator(evidence)
            seconds = (time.perf_counter() - start) / max(1, len(asked))
            costs.setdefault(family.name, Cost(estimator.extra_forwards, family.fit_seconds, seconds))
            if column not in table.column_names:
                table = with_column(table, column, values.tolist(), rows=asked.tolist())
    fitted_on = {family.name: family.fitted_on for family in families if family.fitted_on is not None}
    return Selected(
        predictions=with_fitted_on(table, fitted_on),
        selectors={family.name: family.selector for family in families if family.selector is not None},
        costs=costs,
    )


def _fittable(config: Config, predictions: "pa.Table") -> list[str]:
    """The estimators that can be fitted: where the data itself has nothing to learn from, those that learn are not."""
    names = config.confidence.estimators
    if not SOURCES[config.data.name].decides_splits:
        return names
    missing = [split for split in (TRAINING_SPLIT, CHOOSING_SPLIT) if not len(_plain(predictions, split))]
    trained = [name for name in names if ESTIMATORS[name].trained]
    if not (missing and trained):
        return names
    tell(
        f"{', '.join(trained)} is left out: {config.data.called()} has no questions in {' and '.join(missing)}, on "
        "which confidence estimators are trained and chosen"
    )
    return [name for name in names if name not in trained]


@dataclass(frozen=True, eq=False)
class Family:
    """An estimator, fitted with every seed it has.

    Attributes:
        name: The estimator.
        members: One a seed; the first is the one that is used.
        fit_seconds: Time to fit one.
        selector: The first, where it is a Selector.
    """

    name: str
    members: "Sequence[FittedEstimator]"
    fit_seconds: float
    selector: "TrainedSelector | None" = None

    @property
    def fitted_on(self) -> FittedOn | None:
        """The images that it has seen."""
        return self.members[0].fitted_on

    def columns(self) -> "dict[str, FittedEstimator]":
        """The column of each member: the confidence itself, and the same with other seeds."""
        others = {f"{SEED_PREFIX}{self.name}_{number}": found for number, found in enumerate(self.members) if number}
        return {f"{CONFIDENCE_PREFIX}{self.name}": self.members[0], **others}


def _fit(
    config: Config,
    name: str,
    predictions: "pa.Table",
    blocks: FeatureBlocks | None,
    *,
    logger_of: "Callable[[str], Logger] | None",
) -> Family:
    estimator = ESTIMATORS[name]
    fitting = Fitting(
        settings=config.confidence.settings_of(name),
        seed=config.seed,
        accelerator=config.trainer.accelerator,
        progress=config.trainer.progress_bar,
        logger_of=logger_of,
    )
    if isinstance(estimator, Formula):
        return Family(name, estimator.fit(fitting=fitting), fit_seconds=0.0)
    with TemporaryDirectory() as folder:
        answers = (
            unquantized_answers(config, features=Path(folder, FEATURES))
            if estimator.unquantized
            else (predictions, blocks)
        )
        start = time.perf_counter()
        members = estimator.fit(*_learning(*answers), fitting)
    seconds = (time.perf_counter() - start) / len(members)
    selector = cast("TrainedSelector", members[0]) if isinstance(estimator, Selector) else None
    return Family(name, members, fit_seconds=seconds, selector=selector)


def _learning(predictions: "pa.Table", blocks: FeatureBlocks | None) -> tuple[Examples, Examples]:
    """The examples that train, and those that choose.

    Raises:
        ReliabitError: One of the two splits was not asked.
    """
    found = []
    for split in (TRAINING_SPLIT, CHOOSING_SPLIT):
        rows = _plain(predictions, split)
        if not len(rows):
            raise ReliabitError(
                f"the predictions have no rows of the split {split}, which confidence estimators need; "
                f"set data.ask.{split} to a number of images, or confidence=maxprob"
            )
        found.append(_examples(predictions, blocks, rows))
    return found[0], found[1]


def _examples(predictions: "pa.Table", blocks: FeatureBlocks | None, rows: Rows) -> Examples:
    # What further passes found is there for the rows that are judged alone.
    table = predictions.take(rows)
    empty = [name for name in EXTRA_SCALARS if name in table.column_names and table[name].null_count]
    features = None if blocks is None else {name: _part(block, rows) for name, block in blocks.items()}
    return examples_of(table.drop_columns(empty), features=features)


def _part(block: "np.ndarray[Any, Any]", rows: Rows) -> "np.ndarray[Any, Any]":
    # A slice of a mapped file stays on disk; rows picked one by one would be copied into memory.
    first, last = int(rows[0]), int(rows[-1])
    return block[first : last + 1] if last - first + 1 == len(rows) else block[rows]


def _plain(predictions: "pa.Table", split: str) -> Rows:
    splits, shifts = (np.array(predictions[column].to_pylist()) for column in ("split", "shift"))
    return np.flatnonzero((splits == split) & (shifts == NO_SHIFT))


def _roles(predictions: "pa.Table") -> dict[str, list[str]]:
    """The images of each split, those of shifts and of other data sets included."""
    keys: dict[str, set[str]] = {}
    for split, key in zip(predictions["split"].to_pylist(), image_keys(predictions), strict=True):
        keys.setdefault(split, set()).add(key)
    return {split: sorted(found) for split, found in keys.items()}


def _without(predictions: "pa.Table", families: "Sequence[Family]") -> "pa.Table":
    """The table without what the same estimators said before; MaxProb is the model's own and stays."""
    names = [family.name for family in families if family.name != MAXPROB]
    stale = [f"{CONFIDENCE_PREFIX}{name}" for name in names] + [
        column for name in names for column in seeds_of(predictions, name)
    ]
    return predictions.drop_columns([column for column in stale if column in predictions.column_names])
