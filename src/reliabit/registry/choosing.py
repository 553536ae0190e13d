"""Choosing a candidate: the best by the policy's objective among Pareto points that the gate lets through."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import AUGRC, Measurements, Reliability
from reliabit.evaluation.pareto import Pareto, pareto_front
from reliabit.evaluation.pareto_report import pareto_markdown
from reliabit.evaluation.prediction_columns import image_keys, rows_of
from reliabit.evaluation.tables import markdown_table
from reliabit.metrics import higher_is_better
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.registry.decision import Decision, Reason, decision_on
from reliabit.registry.gate import comparable, decide
from reliabit.registry.policy import COSTS, Policy


@dataclass(frozen=True, eq=False)
class Choice:
    """Which of several configurations is the candidate, and why no other is.

    Attributes:
        candidate: The one to promote; `None` where none passes.
        baseline: The unquantized model that it was compared with.
        measurements: What was measured of them, for the best of all; to be given to `decide`.
        pareto: Where those that could be measured stand; `None` where none could.
        decisions: What the gate says of each without regard to what is live, in the order given.
        shortage: Where none passes and none could, as they were asked about too few images: how many it takes.
    """

    candidate: Cell | None
    baseline: Cell | None
    measurements: Measurements
    pareto: Pareto | None
    decisions: tuple[Decision, ...]
    shortage: str = ""

    @property
    def compared(self) -> int:
        """Among how many it was chosen."""
        return self.measurements.comparisons

    def markdown(self) -> str:
        """The choice for people: the candidate, what speaks against each configuration, and the Pareto table."""
        none = f"No configuration passes. {self.shortage}".rstrip()
        chosen = f"The candidate is {self.candidate.name}." if self.candidate else none
        lines = [
            [
                decision.candidate,
                "candidate" if self.candidate and decision.run_id == self.candidate.run_id else decision.verdict,
                " ".join(reason.text for reason in decision.reasons if not reason.passed),
            ]
            for decision in self.decisions
        ]
        table = markdown_table(["configuration", "verdict", "what speaks against it"], lines)
        return f"{chosen}\n\n{table}" + (f"\n{pareto_markdown(self.pareto)}" if self.pareto else "")

    def to_dict(self) -> dict[str, Any]:
        """The choice for JSON."""
        return {
            "candidate": self.candidate.name if self.candidate else None,
            "baseline": self.baseline.name if self.baseline else None,
            "compared": self.compared,
            "decisions": [decision.to_dict() for decision in self.decisions],
        }


def choose(configurations: Sequence[Cell], policy: Policy) -> Choice:
    """Choose a candidate among the configurations of a sweep.

    A configuration is eligible if it passes every rule of the gate against the unquantized cell of its model, and no
    other that passes surely dominates it (`reliabit.evaluation.pareto`). One that cannot go live itself throws nothing
    out. Of those, the best by the policy's objective is taken; where two are equal in it, the one with the smaller
    AUGRC.

    Args:
        configurations: All that were looked at, the unquantized ones among them.
        policy: The rules' numbers.

    Returns:
        The choice; it counts every configuration as looked at, whatever became of it.

    Raises:
        ReliabitError: Two configurations have the same name, or they were asked different questions.
    """
    if len({one.name for one in configurations}) < len(configurations):
        raise ReliabitError("two configurations have the same name; tell them apart")
    measurable = [one for one in configurations if _measurable(one, policy)]
    measurements = Measurements(policy, comparisons=max(1, len(configurations)))
    pareto = pareto_front(measurable, measurements) if measurable else None
    judged = [_judge(one, configurations, policy, measurements) for one in configurations]
    passing = {decision.candidate for decision in judged if decision.accepted}
    decisions = tuple(_with_place(decision, pareto, passing=passing) for decision in judged)
    accepted = {decision.candidate for decision in decisions if decision.accepted}
    eligible = [point for point in pareto.points if point.name in accepted] if pareto else []
    best = min(eligible, key=lambda point: _rank(point, policy), default=None)
    candidate = next((one for one in configurations if best and one.name == best.name), None)
    return Choice(
        candidate=candidate,
        baseline=baseline_of(candidate, configurations) if candidate else None,
        measurements=measurements,
        pareto=pareto,
        decisions=decisions,
        shortage="" if candidate else _shortage(configurations, policy, level=measurements.level),
    )


def _shortage(configurations: Sequence[Cell], policy: Policy, *, level: float) -> str:
    """How many images it takes to choose by accuracy at all, where even the best asked was asked about fewer."""
    split = policy.reported
    asked = [
        image_keys(rows_of(one.predictions, split))
        for one in configurations
        if one.finished and one.predictions is not None
    ]
    images = max(asked, key=lambda found: len({*found}), default=[])
    if not images or not policy.accuracy_loss > 0:
        return ""
    unchanged = cluster_mean(np.zeros(len(images)), images, low=-1.0)
    needed, there = unchanged.images_needed(policy.accuracy_loss, level=level), len({*images})
    if needed <= there:
        return ""
    return (
        f"They were asked about {there} images of the split {split}, which is too few to choose by: to rule out a loss "
        f"of more than {100 * policy.accuracy_loss:g} points of accuracy among {len(configurations)} takes {needed} at "
        "the least. Ask about more, as `make run` does, or name another sweep with --sweep."
    )


def baseline_of(configuration: Cell, configurations: Sequence[Cell]) -> Cell | None:
    """The unquantized configuration of the same model and data, if there is one; a finished one before others."""
    found = [one for one in configurations if one.unquantized and one.differs_in_quantization_alone(configuration)]
    return min(found, key=lambda one: not one.finished, default=None)


def _measurable(configuration: Cell, policy: Policy) -> bool:
    return configuration.finished and comparable({"candidate": configuration}, policy).passed


def _judge(configuration: Cell, configurations: Sequence[Cell], policy: Policy, measurements: Measurements) -> Decision:
    baseline, compared = baseline_of(configuration, configurations), measurements.comparisons
    if not configuration.finished:
        # What it recorded may be incomplete, so that nothing else can be said of it.
        reason = Reason("finished", False, f"it is {configuration.status}: only finished runs count.")
    elif baseline is None:
        reason = Reason(
            "baseline",
            False,
            "its model has no unquantized run on the same data: run quant=none. A checkpoint that was quantized before "
            "it was run is measured, and not promoted.",
        )
    else:
        return decide(configuration, None, policy, baseline=baseline, compared=compared, measurements=measurements)
    return decision_on(configuration, policy, baseline=baseline, incumbent=None, compared=compared, reasons=[reason])


def _with_place(decision: Decision, pareto: Pareto | None, *, passing: Collection[str]) -> Decision:
    place = pareto.places.get(decision.candidate) if pareto else None
    if place is None:
        return decision
    by = [name for name in place.by if place.stays or name in passing]
    if place.stays:
        text = f"it is {place.standing}{f', behind {_listed(by)} by point values' if by else ''}."
    elif by:
        text = f"it is dominated by {_listed(by)}."
    else:
        text = f"it is dominated by {_listed(place.by)} alone, which cannot go live."
    reason = Reason("pareto", place.stays or not by, text)
    return replace(decision, reasons=(*decision.reasons, reason))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _rank(point: Reliability, policy: Policy) -> tuple[float, float, str]:
    metric = policy.metric
    value = point.costs[metric] if policy.objective in COSTS else point.qualities[metric].estimate
    first = -value if higher_is_better(metric) and policy.objective not in COSTS else value
    return first, point.qualities[AUGRC].estimate, point.name
