"""Measured cells from where they are recorded: the runs of a store, or what the versioned pipeline wrote."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import yaml

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import FINISHED, Cell
from reliabit.identity import FINGERPRINT, Fingerprint, is_transport
from reliabit.inference.cell_record import read_cell_record
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.quant.settings import UNQUANTIZED
from reliabit.tracking.context import COMMIT, DIRTY
from reliabit.tracking.results_sync import SELECTED, digest_of, report_metrics
from reliabit.tracking.store.calls import store_errors
from reliabit.tracking.tags import FINGERPRINT_TAG, KIND, PLACES
from reliabit.tracking.tracker import CONFIG, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

Found = TypeVar("Found")

MODEL = "model/"
CALIBRATION = "calibration"
"""Names of inputs that are no questions: the model's files, and what a data-aware quantizer learned from."""


def cell_of_run(tracker: Tracker, run_id: str) -> Cell:
    """Read a cell from its run.

    Raises:
        ReliabitError: There is no such run, or see `from_mlflow`.
    """
    try:
        run = tracker.client.get_run(run_id)
    except store_errors() as error:
        raise ReliabitError(f"there is no run {run_id} to read; `make ui` shows those that are recorded") from error
    return from_mlflow(tracker, run)


def cells_of_sweep(tracker: Tracker, parent: str) -> list[Cell]:
    """Read the cells of a sweep, those that it reused and those that did not finish among them.

    Args:
        tracker: Where it is recorded.
        parent: The sweep's run.

    Raises:
        ReliabitError: The run has no cells, or see `from_mlflow`.
    """
    runs = [run for run in tracker.children(parent) if run.data.tags.get(KIND) == "cell"]
    if not runs:
        raise ReliabitError(f"the run {parent} has no cells to choose among; name the parent run of a sweep")
    return cells_of(tracker, runs)


def cells_of(tracker: Tracker, runs: "Sequence[Run]") -> list[Cell]:
    """Read the cells of a sweep, each once, with names that tell them apart.

    Args:
        tracker: Where they are recorded.
        runs: Those to read; see `reliabit.tracking.tracker.Tracker.children`.

    Raises:
        ReliabitError: A finished one lacks what a cell consists of.
    """
    names = labels(runs)
    return [from_mlflow(tracker, run, name=names[run.info.run_id]) for run in runs]


def labels(runs: "Sequence[Run]") -> dict[str, str]:
    """A name for each run by its id: its own, with what tells it apart where others have the same.

    Runs share a name where they differ in something that names leave out, such as the group size; then their
    parameters that differ are added, and the places that they read where those do.
    """
    shared: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        shared[run.info.run_name or run.info.run_id].append(run)
    found = {}
    for name, members in shared.items():
        told = {run.info.run_id: _told(run) for run in members}
        keys = [
            key
            for key in told[members[0].info.run_id]
            if _decides(key) and len({own.get(key) for own in told.values()}) > 1
        ]
        for number, run in enumerate(members, 1):
            parts = [f"{key}={told[run.info.run_id].get(key)}" for key in keys]
            # Nothing but the place differs for a cell that was run twice.
            extra = parts or ([f"#{number}"] if len(members) > 1 else [])
            found[run.info.run_id] = " ".join([name, *extra])
    return found


def _told(run: "Run") -> dict[str, str]:
    """What a run says of its configuration: its parameters, and which places it read."""
    tags = run.data.tags
    return {**{key: tags[key] for key in PLACES if key in tags}, **run.data.params}


def _decides(key: str) -> bool:
    """Whether runs that differ in a parameter are different for a reader.

    Which model and which files are read is told by their place, though their contents identify a run.

    >>> _decides("paths.output"), _decides("model.path"), _decides("quant.bits")
    (False, True, True)
    """
    return key in ("model.path", "data.root") or not is_transport(key)


def from_mlflow(tracker: Tracker, run: "Run", *, name: str | None = None) -> Cell:
    """Read a cell from its run.

    Args:
        tracker: Where it is recorded.
        run: The run.
        name: What to call it; the run's own name by default.

    Raises:
        ReliabitError: The run finished without what a cell consists of. One that did not finish lacks what it did not
            get to.
    """
    status, tags = str(run.info.status), dict(run.data.tags)
    name = name or run.info.run_name or run.info.run_id
    with TemporaryDirectory() as folder:

        def read(file: str, reader: Callable[[Path], Found]) -> Found | None:
            try:
                return reader(tracker.fetch(run.info.run_id, file, Path(folder)))
            except ReliabitError as error:
                if status == FINISHED:
                    raise ReliabitError(f"{name} cannot be judged: {error}") from error
                # Whatever it got to, it is refused for not having finished.
                return None

        identity = read(FINGERPRINT, lambda path: Fingerprint.from_json(path.read_text(encoding="utf-8")))
        config = read(CONFIG, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")))
        predictions = read(PREDICTIONS, read_predictions)
    inputs = identity.inputs if identity else {}
    return Cell(
        name=name,
        run_id=run.info.run_id,
        fingerprint=identity.hex if identity else tags.get(FINGERPRINT_TAG, ""),
        status=status,
        dirty=uncommitted(tags),
        inputs={key: value for key, value in inputs.items() if key != CALIBRATION and not key.startswith(MODEL)},
        model={key: value for key, value in inputs.items() if key.startswith(MODEL)},
        metrics=dict(run.data.metrics),
        predictions=predictions,
        config=config or {},
    )


def from_results(folder: Path, *, quantizer: str, bits: int | None, model: str) -> Cell:
    """Read a cell from the folder that the versioned pipeline wrote, before any run is recorded of it.

    What was committed is not asked here: a stage that runs changes `dvc.lock`, so it never runs on a clean tree. The
    gate asks it of the run that is promoted.

    Args:
        folder: The cell's folder.
        quantizer: The option of `quant` that its checkpoint was made by.
        bits: Its width.
        model: The option of the model that its checkpoint was made of.

    Raises:
        ReliabitError: A part is missing or damaged.
    """
    fingerprint, answered = digest_of(folder), read_cell_record(folder)
    method = "none" if quantizer == UNQUANTIZED else quantizer
    return Cell(
        name=answered.name,
        run_id=folder.name,
        fingerprint=fingerprint,
        status=FINISHED,
        dirty=(),
        inputs={"table": answered.table},
        model={"model": model},
        metrics={**report_metrics(folder), **answered.efficiency},
        predictions=read_predictions(folder / SELECTED / PREDICTIONS),
        # Each checkpoint lies elsewhere, though all were made of one model.
        config={
            **answered.config,
            "model": {"name": model},
            "quant": {"name": quantizer, "method": method, "bits": bits},
        },
    )


def uncommitted(tags: Mapping[str, str]) -> tuple[str, ...]:
    """What of a run's code and data no commit tells, by its tags.

    >>> uncommitted({"mlflow.source.git.commit": "fc88228", "git.dirty": "false"})
    ()
    >>> uncommitted({"mlflow.source.git.commit": "fc88228", "git.dirty": "true", "dvc.dirty": "true"})
    ('git.dirty is true', 'dvc.dirty is true')
    >>> uncommitted({})
    ('no commit is recorded', 'git.dirty is not recorded')
    """
    commit = () if tags.get(COMMIT) else ("no commit is recorded",)
    found = {DIRTY: tags.get(DIRTY, "not recorded"), **{tag: tags[tag] for tag in tags if tag.endswith(".dirty")}}
    return (*commit, *(f"{tag} is {value}" for tag, value in found.items() if value != "false"))


@dataclass(frozen=True)
class Competing:
    """Which cells of the pipeline compete: one model on one data set.

    Attributes:
        model: The model's option.
        data: The data's option.
        quantizers: Options of the group `quant`.
        bits: Widths.
    """

    model: str
    data: str
    quantizers: Sequence[str]
    bits: Sequence[int]

    def folders(self) -> dict[str, tuple[str, int | None]]:
        """The folder of each cell, with its quantizer and width; the unquantized one first.

        >>> list(Competing("m", "d", ["hqq"], [4]).folders())
        ['m-none-d', 'm-hqq-4bit-d']
        """
        baseline: dict[str, tuple[str, int | None]] = {f"{self.model}-{UNQUANTIZED}-{self.data}": (UNQUANTIZED, None)}
        return baseline | {
            f"{self.model}-{quantizer}-{bits}bit-{self.data}": (quantizer, bits)
            for quantizer, bits in product(self.quantizers, self.bits)
        }

    def read(self, results: Path) -> list[Cell]:
        """Read the cells from the folder of all results.

        Raises:
            ReliabitError: One is missing or incomplete.
        """
        return [
            from_results(results / name, quantizer=quantizer, bits=bits, model=self.model)
            for name, (quantizer, bits) in self.folders().items()
        ]
