"""The version that is live, and the rules of replacing it: better in one respect, no worse in any than a margin.

It is the cell that the live version was made of, at the terms that the version itself names. It is measured by the
confidence that it abstains by, whatever the policy of today would choose.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import LATENCY, Cell
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, Reliability, heading
from reliabit.evaluation.pareto_report import COSTS as SHOWN
from reliabit.evaluation.tables import signed
from reliabit.metrics import higher_is_better
from reliabit.metrics.intervals import corrected_level
from reliabit.registry._reliability_rules import gain, too_few
from reliabit.registry.decision import NEW, Reason
from reliabit.registry.policy import COSTS, Policy
from reliabit.registry.pulling import fetch_description
from reliabit.registry.terms import TAG, Terms, terms_of_bundle, terms_of_settings
from reliabit.registry.versions import Version
from reliabit.tracking.recorded_cells import cell_of_run
from reliabit.tracking.tracker import Tracker


@dataclass(frozen=True, eq=False)
class Live:
    """What is live, and how it is compared with.

    Attributes:
        cell: The cell that it was made of.
        terms: What it promises; no policy of today says that.
        stand_in: Where its own cell was measured on other data than the candidate, the same cell of the candidate's
            sweep.
    """

    cell: Cell
    terms: Terms
    stand_in: Cell | None = None

    @property
    def name(self) -> str:
        """What people call its cell."""
        return self.cell.name

    @property
    def fingerprint(self) -> str:
        """The identity of the run that it was made of."""
        return self.cell.fingerprint

    @property
    def measured(self) -> Cell:
        """The cell that is measured in its place."""
        return self.stand_in or self.cell

    @property
    def represented(self) -> bool:
        """Whether another run stands for its own."""
        return self.measured.fingerprint != self.fingerprint

    def on_the_data_of(self, candidate: Cell, sweep: Sequence[Cell]) -> "Live":
        """The same, measured on the data of a candidate if its own run was not and a sweep has its cell.

        Args:
            candidate: The candidate.
            sweep: The cells that were measured together with it.
        """
        if dict(self.cell.inputs) == dict(candidate.inputs):
            return self
        found = [
            one
            for one in sweep
            if one.finished and dict(one.inputs) == dict(candidate.inputs) and one.is_the_cell_of(self.cell)
        ]
        return replace(self, stand_in=found[-1]) if found else self


def live_version(tracker: Tracker, version: Version, *, known: Mapping[str, Cell] | None = None) -> Live:
    """Read what is live: the run that it was made of, and the terms that the version itself names.

    Args:
        tracker: Where both are recorded.
        version: The champion.
        known: Cells that were read already, by run; none is read twice.

    Raises:
        ReliabitError: It has no run, or its run or its terms cannot be read.
    """
    if version.run_id is None:
        raise ReliabitError(f"{version.uri} has no run to compare with; promote by hand, or delete it")
    cell = (known or {}).get(version.run_id) or cell_of_run(tracker, version.run_id)
    tag = version.tags.get(TAG)
    # Versions from before there was the tag say it in their bundle alone.
    terms = Terms.from_tag(tag) if tag is not None else terms_of_bundle(fetch_description(tracker, version))
    return Live(cell, terms)


def live_already(candidate: Cell, incumbent: Live, policy: Policy) -> Reason | None:
    """The reason to leave what is live as it is, if the candidate is that, at the same terms."""
    terms = terms_of_settings(policy)
    if candidate.fingerprint != incumbent.fingerprint or terms != incumbent.terms:
        return None
    return Reason(
        NEW,
        False,
        f"{candidate.name} is live already: the version that is live has the same fingerprint "
        f"{candidate.fingerprint[:12]} and the same terms ({terms}).",
    )


def representation(incumbent: Live | None) -> list[Reason]:
    """A note where another run stands for what is live."""
    if incumbent is None or not incumbent.represented:
        return []
    return [
        Reason(
            "live version",
            True,
            f"{incumbent.name} was measured on other data, so the run {incumbent.measured.run_id} of the same "
            "configuration on these data stands for it.",
        )
    ]


def promises_kept(live: Terms, policy: Policy) -> Reason:
    """Whether every risk that is certified now stays certified, at least as surely."""
    rule = "certified risks against the live version"
    lost = terms_of_settings(policy).weaker_than(live)
    if lost:
        kept = ", ".join(f"{100 * risk:g} % (delta {live.deltas[risk]:g})" for risk in lost)
        return Reason(
            rule,
            False,
            f"the live version certifies {kept}, and the policy does not, or less surely: see registry.certified_risks "
            "and registry.delta.",
        )
    return Reason(rule, True, f"every risk that the live version certifies stays certified ({live}).")


def renewal(candidate: Cell, incumbent: Live, policy: Policy) -> Reason | None:
    """The reason to promote what is live on other data than it was certified on, if the candidate is that.

    A threshold is worth what its calibration questions are worth, so new ones are an improvement of their own.
    """
    same = candidate.run_id == incumbent.measured.run_id and policy.confidence == incumbent.terms.confidence
    if not (same and incumbent.represented):
        return None
    return Reason("improvement", True, f"{candidate.name} is the configuration that is live, certified on other data.")


def nothing_lost(candidate: Reliability, incumbent: Reliability, policy: Policy, *, level: float) -> Iterator[Reason]:
    """Whether losses beyond the margins are ruled out in accuracy, AUGRC and certified coverage.

    Both are certified anew at the same terms; what the live version was certified with may have been milder.
    """
    margins = policy.incumbent
    for metric, margin in (
        (ACCURACY, margins.accuracy_loss),
        (AUGRC, margins.augrc_loss),
        (policy.certified_coverage, margins.coverage_loss),
    ):
        rule = f"{heading(metric)} against the live version"
        if metric not in candidate.qualities:
            yield Reason(rule, False, "nothing is certified, as the splits val and cal were not asked.")
            continue
        change = gain(metric, candidate, incumbent, larger_is_better=higher_is_better(metric))
        found = change.interval(level=level)
        kept = found.low >= -margin
        yield Reason(
            rule,
            kept,
            f"a gain of {signed(found)} points at {100 * level:.4g} %; a loss of more than {100 * margin:g} points "
            f"{'is' if kept else 'cannot be'} ruled out{too_few(change.mean, margin, level=level)}.",
        )


def improvement(candidate: Reliability, incumbent: Reliability, policy: Policy, *, level: float) -> Reason:
    """Whether the candidate is better in the objective, or surely more reliable at no more cost."""
    better, text = _in_objective(candidate, incumbent, policy, level=level)
    if better:
        return Reason("improvement", True, f"{text}.")
    more_reliable, other = _in_reliability(candidate, incumbent, policy, level=level)
    return Reason("improvement", more_reliable, f"{text}; {other}.")


def _in_objective(candidate: Reliability, incumbent: Reliability, policy: Policy, *, level: float) -> tuple[bool, str]:
    metric = policy.metric
    if policy.objective in COSTS:
        own, theirs = candidate.costs[metric], incumbent.costs[metric]
        name, factor, form = SHOWN[metric]
        change = f"{name} {own * factor:{form}} after {theirs * factor:{form}} ({100 * (own / theirs - 1):+.1f} %)"
        step = policy.latency_tolerance if metric == LATENCY else 0.0
        return own * (1 + step) < theirs, change
    if metric not in candidate.qualities:
        return False, f"{heading(metric)} is not known"
    found = gain(metric, candidate, incumbent, larger_is_better=higher_is_better(metric)).interval(level=level)
    return found.low > 0, f"a gain in {heading(metric)} of {signed(found)} points at {100 * level:.4g} %"


def _in_reliability(
    candidate: Reliability, incumbent: Reliability, policy: Policy, *, level: float
) -> tuple[bool, str]:
    tolerance = {LATENCY: policy.latency_tolerance}
    dearer = [
        SHOWN[metric][0]
        for metric, value in candidate.costs.items()
        if value > incumbent.costs[metric] * (1 + tolerance.get(metric, 0.0))
    ]
    metrics = [name for name in (AUGRC, policy.certified_coverage) if name in candidate.qualities]
    # Two chances to be better by luck.
    corrected = corrected_level(level, len(metrics))
    found = {
        metric: gain(metric, candidate, incumbent, larger_is_better=higher_is_better(metric)) for metric in metrics
    }
    surer = [heading(metric) for metric, one in found.items() if one.interval(level=corrected).low > 0]
    reliable = f"surely better in {' and '.join(surer)}" if surer else "not surely more reliable"
    cost = f"costs more in {' and '.join(dearer)}" if dearer else "costs no more"
    return bool(surer) and not dearer, f"{reliable}, and {cost}"
