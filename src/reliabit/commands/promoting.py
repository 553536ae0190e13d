"""`reliabit promote`: which configuration goes live, and why."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import Measurements
from reliabit.evaluation.short_names import short_names
from reliabit.progress import step
from reliabit.registry import promotion
from reliabit.registry.choosing import baseline_of, choose
from reliabit.registry.decision import Decision
from reliabit.registry.gate import decide
from reliabit.registry.incumbent import live_version
from reliabit.registry.policy import Policy
from reliabit.registry.registering import register_bundle
from reliabit.registry.terms import terms_of_settings
from reliabit.registry.versions import Version
from reliabit.terminal import show_markdown, show_result
from reliabit.tracking.recorded_cells import cells_of_sweep
from reliabit.tracking.sweep.parent import check_ended, find_sweep
from reliabit.tracking.tracker import Tracker, open_tracker


@dataclass(frozen=True)
class Candidacy:
    """A candidate and what it is judged by.

    Attributes:
        candidate: The cell.
        baseline: The unquantized model.
        measurements: What was measured to choose it, among how many.
        sweep: All cells that were measured together with it.
        policy: The policy.
        tracker: Where all are recorded.
        read: Cells that were read already, by run: the decision is made again under the registry's lock.
    """

    candidate: Cell
    baseline: Cell
    measurements: Measurements
    sweep: tuple[Cell, ...]
    policy: Policy
    tracker: Tracker
    read: dict[str, Cell]

    def against(self, champion: Version | None) -> Decision:
        """The gate's decision against the version that is live, at the terms that this one names itself."""
        incumbent = None
        if champion is not None:
            live = live_version(self.tracker, champion, known=self.read)
            self.read[live.cell.run_id] = live.cell
            incumbent = live.on_the_data_of(self.candidate, self.sweep)
        return decide(
            self.candidate,
            incumbent,
            self.policy,
            baseline=self.baseline,
            compared=self.measurements.comparisons,
            measurements=self.measurements,
        )


def promote(config: Config, options: argparse.Namespace) -> bool:
    """Choose a candidate, put it through the gate, and make it champion if it passes.

    Returns:
        Whether it did or would, or is champion already.

    Raises:
        ReliabitError: There is nothing to choose among, or what was measured cannot be made again.
    """
    from reliabit.registry.versions import CHAMPION, find_alias
    from reliabit.tracking.store.opening import check_registry

    # Where there is no registry, that is to be said before anything about sweeps.
    check_registry(config.tracking.uri)
    policy = config.registry
    with step("opening the store"):
        tracker = open_tracker(config.tracking)
    found = find_candidate(tracker, policy, sweep=options.sweep, run=options.run)
    if found is None:
        return False
    champion = find_alias(tracker, policy.model, CHAMPION)
    with step("asking the gate"):
        decision = found.against(champion)
    show_markdown(f"\n{decision.markdown()}\n")
    if options.dry_run:
        return decision.accepted or decision.unchanged
    if decision.accepted:
        return _register_and_promote(config, found, decision)
    candidate = found.candidate
    promotion.record_decision(
        tracker, policy.model, decision, run_id=candidate.run_id, fingerprint=candidate.fingerprint
    )
    return decision.unchanged


def find_candidate(tracker: Tracker, policy: Policy, *, sweep: str, run: str | None) -> Candidacy | None:
    """The cell of a sweep to put forward, and why; `None` where none passes.

    Args:
        tracker: Where the sweep is recorded.
        policy: The policy.
        sweep: The parent run, or `last`.
        run: A cell of it, see `cell_named`; the best by the policy where it is `None`.

    Raises:
        ReliabitError: There is no such sweep or cell, the sweep is still running, or the cell's model has no
            unquantized one beside it.
    """
    found = find_sweep(tracker, sweep)
    check_ended(found)
    parent = found.info.run_id
    with step("reading the cells of the sweep"):
        cells = cells_of_sweep(tracker, parent)
    named = None if run is None else cell_named(cells, run, sweep=parent)
    with step(f"certifying and comparing {len(cells)} cells"):
        choice = choose(cells, policy)
    show_markdown(f"sweep {parent}: {choice.markdown()}\n")
    candidate, baseline = choice.candidate, choice.baseline
    if named is not None:
        candidate = named
        if not candidate.finished:
            raise ReliabitError(f"{candidate.name} is {candidate.status}, and only finished cells are promoted")
        baseline = baseline_of(candidate, cells)
        if baseline is None:
            raise ReliabitError(
                f"{candidate.name} has no unquantized model beside it in {parent}; run quant=none there"
            )
    if candidate is None or baseline is None:
        return None
    return Candidacy(
        candidate,
        baseline,
        measurements=choice.measurements,
        sweep=tuple(cells),
        policy=policy,
        tracker=tracker,
        read={cell.run_id: cell for cell in cells},
    )


def cell_named(cells: Sequence[Cell], wanted: str, *, sweep: str) -> Cell:
    """A cell of a sweep by its run, its name, or its name without what all of them share.

    Args:
        cells: Those of the sweep.
        wanted: What it is called.
        sweep: The sweep's run.

    Raises:
        ReliabitError: There is none, or several.
    """
    short = short_names([cell.name for cell in cells])
    found = [cell for cell, name in zip(cells, short, strict=True) if wanted in (cell.run_id, cell.name, name.strip())]
    if len(found) == 1:
        return found[0]
    known = ", ".join(name.strip() for name in short)
    raise ReliabitError(
        f"the sweep {sweep} has {'several cells' if found else 'no cell'} {wanted}; it has {known} (or a run's id); "
        "name another sweep with --sweep"
    )


def _register_and_promote(config: Config, found: Candidacy, decision: Decision) -> bool:
    from reliabit.tasks.bundling import bundle_of
    from reliabit.tasks.runtime import set_up

    # Only what is made anew takes torch, and its seeds.
    set_up(config)
    candidate, name = found.candidate, found.policy.model
    with bundle_of(candidate, decision, found.tracker, config=config) as bundle:
        terms = terms_of_settings(found.policy)
        tags = {"fingerprint": candidate.fingerprint, "policy": found.policy.name, **terms.to_tags()}
        version = register_bundle(found.tracker, bundle, run_id=candidate.run_id, name=name, tags=tags)
    attempt = promotion.promote(found.tracker, name, version.number, decide=found.against)
    then = "" if attempt.outcome == "refused" else "reliabit serve"
    show_result(f"{version.uri} ({candidate.name}): {attempt.outcome}: {attempt.reason}", [], then=then)
    return attempt.outcome != "refused"
