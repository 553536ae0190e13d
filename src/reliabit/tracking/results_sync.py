"""Runs of what the versioned pipeline wrote: stages record none, and one that DVC restores does not even run.

A cell's folder holds all that its run has: what was asked of which model and at what cost (`answered.json`), the
predictions with every confidence (`selected/`) and the report (`report/`). The run is made of these files alone, once
for each content, so it does not matter whether they were written here, restored from the cache, or pulled.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from reliabit.digests import DigestCache, checkpoint_inputs, table_inputs
from reliabit.errors import ReliabitError
from reliabit.evaluation.headline import REQUIRED_RISK
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.files import MANIFEST, check_hash, check_manifest
from reliabit.files import sha256 as file_sha256
from reliabit.identity import identify
from reliabit.inference.cell_record import ANSWERED, KERNELS, REMEDY, kernels_text, read_cell_record
from reliabit.inference.predictions import PREDICTIONS
from reliabit.tracking.context import context_tags
from reliabit.tracking.dataset_source import SCHEME, dataset_input, find_record, resolve, up_to_date
from reliabit.tracking.journal.sync import Synced
from reliabit.tracking.tags import CELL_TAG, KIND, reserved_tag
from reliabit.tracking.tracker import Tracker
from reliabit.tracking.ui.columns import columns_of
from reliabit.tracking.ui.notes import CellNote, Judging, describe_cell

SELECTED, REPORT, METRICS = "selected", "report", "metrics.json"

RESULTS_TAG = "dvc.results"
"""A digest of the files that a run was made of."""

CELL_TAGS = (KIND, "model", "quant", "bits", "data", CELL_TAG)
"""What a cell is filtered by; whatever else a run is told by is for its recorder to say."""

NEXT = "dvc repro"
"""What brings the cells of the pipeline up to date, and puts the best through the gate."""

DIRTY_TAG = "dvc.dirty"
"""Whether the files differ from what `dvc.lock` says of them, or the pipeline is not up to date with its code."""


def sync_results(results: Path, tracker: Tracker, *, root: Path, cache: DigestCache) -> Synced:
    """Record a run for every cell below a folder that has none yet.

    Args:
        results: The folder of the pipeline's results.
        tracker: Where to record.
        root: The project's folder, where `dvc.lock` lies.
        cache: Digests of large files.

    Raises:
        ReliabitError: A cell is incomplete, or what it read is gone.
    """
    imported: dict[str, str] = {}
    folders = sorted(path.parent for path in results.glob(f"*/{ANSWERED}"))
    digests = {folder: digest_of(folder) for folder in folders}
    new = [folder for folder in folders if not _is_recorded(tracker, digests[folder])]
    # Asked once: it hashes whatever changed since DVC last looked.
    fresh = bool(new) and up_to_date(root)
    for folder in new:
        imported[folder.name] = _record(
            folder, tracker, digest=digests[folder], root=root, cache=cache, up_to_date=fresh
        )
    return Synced(imported=imported, unchanged=len(folders) - len(imported))


def _is_recorded(tracker: Tracker, digest: str) -> bool:
    return any(run.info.status == "FINISHED" for run in tracker.runs_with({RESULTS_TAG: digest}))


def _record(folder: Path, tracker: Tracker, *, digest: str, root: Path, cache: DigestCache, up_to_date: bool) -> str:
    answered = read_cell_record(folder)
    own = set(answered.tags) - {*CELL_TAGS}
    if own or reserved_tag(answered.tags):
        raise ReliabitError(
            f"{folder / ANSWERED} has the tag {min(own, default=KIND)[:80]!a}, which no cell has; bring it up to date "
            "with dvc repro"
        )
    config, table = answered.config, root / answered.table
    inputs = {
        **checkpoint_inputs(root / config["model"]["path"], cache=cache),
        **table_inputs(table, cache=cache, name="data"),
        "results": digest,
    }
    identity = identify(config, inputs=inputs)
    dirty = {DIRTY_TAG: str(not (up_to_date and _as_locked(folder, root=root))).lower()}
    tags = {**answered.tags, **identity.to_tags(), **context_tags(root), **dirty, RESULTS_TAG: digest}
    with tracker.run(answered.name, tags=tags) as run:
        run.log_identity(config, fingerprint=identity)
        if table.resolve().is_relative_to(root.resolve()):
            source = resolve(f"{SCHEME}{table.resolve().relative_to(root.resolve()).as_posix()}", root=root)
            run.log_inputs([dataset_input(source, name=config["data"]["name"], context="evaluation")])
        metrics, policy = {**report_metrics(folder), **answered.efficiency}, _policy(config)
        columns = columns_of(metrics, confidence=policy.confidence, required_risk=policy.required_risk)
        run.log_metrics({**columns, **metrics})
        run.log_text(kernels_text(answered.kernels), KERNELS)
        for part in (folder / SELECTED, folder / REPORT):
            files = [path for path in sorted(part.rglob("*")) if path.is_file() and not path.name.startswith(".")]
            # The run keeps hashes of its own.
            run.log_files([path for path in files if path.name != MANIFEST], root=part)
        note = CellNote(
            run_id=run.run_id, config=config, data=answered.tags["data"], metrics=metrics, policy=policy, then=NEXT
        )
        describe_cell(tracker, run, note, folder=folder / REPORT)
        return run.run_id


def _policy(config: Mapping[str, Any]) -> Judging:
    """What the cell's configuration says of the policy."""
    own = {"confidence": MAXPROB, "required_risk": REQUIRED_RISK, **config.get("registry", {})}
    return Judging(confidence=own["confidence"], required_risk=own["required_risk"])


def report_metrics(folder: Path) -> Mapping[str, float]:
    """The metrics of a cell's report.

    Raises:
        ReliabitError: They are missing or damaged.
    """
    path = folder / REPORT / METRICS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReliabitError(f"{path} cannot be read ({error}); bring it up to date with dvc repro") from error
    # A metric that is undefined is null there.
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}


def digest_of(folder: Path) -> str:
    """A digest of everything that a run is made of, which is as it was written and belongs together.

    Raises:
        DamagedError: A file is not as it was written, or the report is of other predictions.
        ReliabitError: A part is missing.
    """
    missing = [part for part in (SELECTED, REPORT) if not (folder / part).is_dir()]
    if missing:
        raise ReliabitError(f"{folder} has no {missing[0]}; bring it up to date with dvc repro, or get it by dvc pull")
    check_manifest(folder / SELECTED, remedy=REMEDY)
    report, others = check_manifest(folder / REPORT, remedy=REMEDY), f"the report is of others; {REMEDY}"
    check_hash(folder / SELECTED / PREDICTIONS, str(report.get("predictions")), remedy=others)
    parts = [folder / ANSWERED, *sorted((folder / SELECTED).rglob("*")), *sorted((folder / REPORT).rglob("*"))]
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in parts if path.is_file()}
    return sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _as_locked(folder: Path, *, root: Path) -> bool:
    """Whether the files of a cell are those that `dvc.lock` names."""
    for part in (ANSWERED, SELECTED, REPORT):
        path = folder / part
        try:
            record = find_record(path.resolve().relative_to(root.resolve()), root=root)
        except (ReliabitError, ValueError):
            return False
        if not record.is_at(path):
            return False
    return True
