"""Views of the MLflow UI that are saved in an experiment, for addresses to name: its cells, and those of a sweep.

MLflow keeps such a view as a tag of the experiment, where its own button for sharing puts it: which runs are shown, in
which order, with which columns, and which charts are drawn of them. Whoever opens the address sees that.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.tracking.ui.columns import BITS, column_names
from reliabit.tracking.ui.links import CELLS_VIEW, sweep_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT_KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
"""MLflow's tag of what an experiment is for, and its value where models are trained or compressed."""

VIEW = "mlflow.sharedViewState."
"""How the tags begin that hold saved views."""

SHOWN = 100
"""So many cells of a sweep are named one by one; of a larger one those are shown that ran in it."""

RISK = 0.05
"""The risk whose certified coverage the view of all cells shows."""

_CHOOSING = ("accuracy percent", "AURC percent", "stored MiB", BITS)
"""What a choice takes beside certified coverage: the columns that a page has room for."""

_WIDTHS = {"certified": 200, "accuracy": 120, "AURC": 110, "stored": 100, "ECE": 105, "C at": 120, BITS: 115}
_SECTION = "reliabit"
_NAME = "attributes.`Run Name`"


def mark_experiment(client: "MlflowClient", experiment_id: str, *, known: "Experiment | None") -> None:
    """Say of an experiment that models are compared in it, and save the view of its cells, unless that is done.

    A store that cannot be written to stays as it is: whoever only reads needs no mark.

    Args:
        client: The store's client.
        experiment_id: The experiment.
        known: The same, as the store has it; `None` where it is new.
    """
    tags = dict(known.tags) if known is not None else {}
    with suppress(ReliabitError):
        for key, value in {EXPERIMENT_KIND: TRAINING, f"{VIEW}{CELLS_VIEW}": _cells_view()}.items():
            if key not in tags:
                client.set_experiment_tag(experiment_id, key, value)


def save_sweep_view(
    client: "MlflowClient",
    experiment_id: str,
    *,
    sweep: str,
    name: str,
    cells: Sequence[str],
    required_risk: float,
) -> None:
    """Save how the cells of a sweep are compared, as a table and as charts.

    Args:
        client: The store's client.
        experiment_id: The experiment.
        sweep: The sweep's run.
        name: What the UI's list of saved views calls it.
        cells: The cells' runs.
        required_risk: The risk whose certified coverage is shown.
    """
    listed = ", ".join(f"'{cell}'" for cell in cells)
    which = f"attributes.run_id IN ({listed})" if len(cells) <= SHOWN else f"tags.mlflow.parentRunId = '{sweep}'"
    columns = column_names(required_risk)
    state = {**_table(which, columns, order="stored MiB"), **_charts(columns), "runsHiddenMode": "SHOW_ALL"}
    client.set_experiment_tag(experiment_id, f"{VIEW}{sweep_view(sweep)}", _view(name, state))


def _cells_view() -> str:
    columns = column_names(RISK)
    # Sorted by a metric, cells stand by themselves; by time, MLflow folds them below their sweeps.
    state = {**_table("tags.kind = 'cell'", columns, order=_certified(columns)), "runsHiddenMode": "FIRST_20_RUNS"}
    return _view("Reliabit: all cells", state)


def _view(name: str, state: dict[str, Any]) -> str:
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})


def _table(which: str, columns: Sequence[str], *, order: str) -> dict[str, Any]:
    first = [name for name in _CHOOSING if name in columns]
    certified = _certified(columns)
    ordered = [*first[:2], certified, *first[2:]]
    shown = [_metric(name) for name in [*ordered, *(name for name in columns if name not in ordered)]]
    return {
        "searchFilter": which,
        "orderByKey": _metric(order),
        "orderByAsc": False,
        "lifecycleFilter": "Active",
        "startTime": "ALL",
        "selectedColumns": shown,
        # Widths hold for the columns of the order alone.
        "columnOrder": [_NAME, *shown],
        "columnWidths": {_NAME: 260, **{_metric(name): _width(name) for name in columns}},
    }


def _certified(columns: Sequence[str]) -> str:
    return next(name for name in columns if name.startswith("certified"))


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _width(name: str) -> int:
    return next((width for start, width in _WIDTHS.items() if name.startswith(start)), 125)


def _charts(columns: Sequence[str]) -> dict[str, Any]:
    """Charts of what a choice takes: sizes and certified coverage, bits and AURC, and all of them as lines."""
    certified, sizes, trust = _certified(columns), "stored MiB", "AURC percent"
    drawn = [
        _chart("SCATTER", "certified", xaxis=_axis(sizes), yaxis=_axis(certified)),
        _chart("SCATTER", "trust", xaxis=_axis(BITS), yaxis=_axis(trust)),
        _chart("PARALLEL", "all", selectedParams=[], selectedMetrics=[BITS, sizes, certified, trust], showAllRuns=True),
        *(_chart("BAR", name, metricKey=name, displayName=name) for name in (certified, trust, sizes)),
    ]
    section = {"name": "What a choice takes", "display": True, "isReordered": True}
    return {
        "compareRunCharts": drawn,
        "compareRunSections": [{"uuid": _SECTION, "deleted": False, "isGenerated": False, **section}],
        "isAccordionReordered": True,
        # The list would take a third of the page, and cut the names that the charts then have room for.
        "runListHidden": True,
    }


def _chart(kind: str, name: str, **more: Any) -> dict[str, Any]:
    fixed = {"deleted": False, "isGenerated": False, "metricSectionId": _SECTION, "runsCountToCompare": 100}
    return {"type": kind, "uuid": f"{_SECTION}-{kind}-{name}", **fixed, **more}


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
