"""The report of a sweep, made of what its parent run and its cells recorded; see `reliabit.evaluation.sweep_report`."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from reliabit import __version__
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.sweep_report import (
    Illustrate,
    Provenance,
    ReportedSweep,
    report_contents,
    report_page,
)
from reliabit.identity import FINGERPRINT
from reliabit.paths import run_command
from reliabit.progress import step
from reliabit.tracking.context import COMMIT
from reliabit.tracking.recorded_cells import cells_of, uncommitted
from reliabit.tracking.redaction import redact, redact_config
from reliabit.tracking.sweep._described import Judge
from reliabit.tracking.sweep._tables import compare_with_baselines, in_order, pareto_of_sweep
from reliabit.tracking.sweep.parent import OVERRIDES, recorded_overrides
from reliabit.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

LIBRARIES = ("torch", "transformers", "hqq", "numpy", "scipy")
"""Libraries whose versions the page tells; the fingerprint of a run has all of them."""


def measured_sweep(
    tracker: Tracker,
    parent: str,
    *,
    settings: EvaluationConfig,
    policy: ParetoSettings,
    judge: Judge,
    illustrate: Illustrate,
    prepared: Path | None,
) -> ReportedSweep:
    """Read the finished cells of a recorded sweep and compare them anew, as its end did.

    Args:
        tracker: Where it is recorded.
        parent: Its run.
        settings: How cells are compared, as far as the cells do not say how they were measured.
        policy: What may choose among them.
        judge: What the policy would choose.
        illustrate: Finds pictures.
        prepared: The folder of prepared tables; None where questions are not sliced by what their pictures are like.

    Raises:
        ReliabitError: A finished cell lacks what it consists of, or they cannot be compared.
    """
    runs = in_order(tracker.children(parent))
    with step(f"reading {len(runs)} cells"):
        cells = [cell for cell in cells_of(tracker, runs) if cell.finished]
    own = as_measured(cells, settings)
    with step(f"certifying and comparing {len(cells)} cells"):
        fronts = pareto_of_sweep(cells, policy=policy, compared=len(runs))
        comparisons = compare_with_baselines(cells, settings=own, policy=policy, compared=len(runs), prepared=prepared)
        return ReportedSweep(
            cells,
            compared=len(runs),
            settings=own,
            policy=policy,
            fronts=list(fronts.values()),
            comparisons=comparisons.differences,
            slices=comparisons.slices,
            verdicts=[(one.text, one.chosen) for one in judge(cells)],
            illustrate=illustrate,
        )


def as_measured(cells: Sequence[Cell], settings: EvaluationConfig) -> EvaluationConfig:
    """The settings that the first of some cells was measured with; others stand in for what it does not tell."""
    recorded = cells[0].config.get("evaluation", {}) if cells else {}
    known = {entry.name for entry in fields(settings)}
    return replace(settings, **{name: value for name, value in recorded.items() if name in known})


def sweep_page(tracker: Tracker, parent: str, sweep: ReportedSweep, *, cache: Path | None, then: str) -> str:
    """The page of a sweep.

    Args:
        tracker: Where it is recorded.
        parent: Its run.
        sweep: What was found of it.
        cache: Where the drawing library is kept.
        then: The next command.

    Raises:
        ReliabitError: No cell finished, or the page is too large.
    """
    if not sweep.cells:
        raise ReliabitError(f"no cell of the sweep {parent} finished, so there is nothing to report")
    run = tracker.client.get_run(parent)
    provenance = provenance_of(tracker, run, sweep.cells, then=then)
    return report_page(report_contents(sweep, provenance), cache=cache)


def provenance_of(tracker: Tracker, parent: "Run", cells: Sequence[Cell], *, then: str) -> Provenance:
    """Where the numbers of a sweep come from; nothing of it holds a password."""
    first, runs = cells[0], [tracker.client.get_run(cell.run_id) for cell in cells]
    began = datetime.fromtimestamp(int(parent.info.start_time) / 1000, tz=UTC)
    inputs = {name: digest[:16] for name, digest in {**first.model, **first.inputs}.items()}
    facts = {
        "parent run": parent.info.run_id,
        "begun": f"{began:%Y-%m-%d %H:%M} UTC",
        "command": f"{run_command()} -m {_overrides(parent)}",
        "commit": _commits(runs),
        "seed": str(first.config.get("seed", "")),
        "inputs (SHA-256)": ", ".join(f"{name} {digest}" for name, digest in inputs.items()),
        "Reliabit": __version__,
        **_libraries(tracker, first.run_id),
    }
    return Provenance(
        title=redact(str(parent.info.run_name)),
        facts={name: redact(text) for name, text in facts.items() if text},
        runs={cell.name: {"run": cell.run_id, "fingerprint": cell.fingerprint} for cell in cells},
        config=redact(yaml.safe_dump(redact_config(first.config), sort_keys=False)),
        next=redact(then),
    )


def _overrides(parent: "Run") -> str:
    """What a sweep was started with, for a shell; without secrets it may be no list any more, and is told as it is."""
    found = recorded_overrides(parent)
    return str(parent.data.tags[OVERRIDES]) if found is None else shlex.join(found)


def _commits(runs: "Sequence[Run]") -> str:
    """The commits of some runs, and what of them no commit tells."""
    commits = dict.fromkeys(run.data.tags[COMMIT] for run in runs if run.data.tags.get(COMMIT))
    dirty = dict.fromkeys(said for run in runs for said in uncommitted(run.data.tags))
    return ", ".join(commits) + (f" ({', '.join(dirty)})" if dirty else "")


def _libraries(tracker: Tracker, run_id: str) -> Mapping[str, str]:
    """Versions of what computes, as the fingerprint of a run has them; none where that cannot be read."""
    with TemporaryDirectory() as folder:
        try:
            text = tracker.fetch(run_id, FINGERPRINT, Path(folder)).read_text(encoding="utf-8")
            versions = json.loads(text)["libraries"]
        except (ReliabitError, ValueError, KeyError):
            return {}
    return {name: str(versions[name]) for name in LIBRARIES if name in versions}
