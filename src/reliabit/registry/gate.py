"""The gate: whether a configuration goes live. A pure function of recorded evidence and a policy."""

from reliabit.errors import ReliabitError
from reliabit.evaluation.paired_reliability import measure_reliability
from reliabit.evaluation.pareto_points import costs_of
from reliabit.registry.decision import Decision, Reason, decision_on
from reliabit.registry.evidence import Configuration
from reliabit.registry.incumbent_rules import improvement, nothing_lost
from reliabit.registry.policy import Policy
from reliabit.registry.provenance import Roles, comparable, live_already, traceable
from reliabit.registry.reliability_rules import accuracy_kept, certified_coverage, level_for, slices_kept


def decide(
    candidate: Configuration,
    incumbent: Configuration | None,
    policy: Policy,
    *,
    baseline: Configuration,
    compared: int,
) -> Decision:
    """Decide whether a candidate goes live.

    Every rule is applied that can be, so that a refusal names all there is to mend.

    Args:
        candidate: The configuration in question.
        incumbent: The one that is live; `None` for a first promotion.
        policy: The rules' numbers.
        baseline: The same model, unquantized, on the same data.
        compared: Among how many configurations the candidate was chosen after a look at their numbers, itself included;
            intervals and certificates are corrected for it.

    Returns:
        The decision. Its certificates are those that have to go live with the candidate.

    Raises:
        ReliabitError: `compared` is not at least 1.
    """
    if compared < 1:
        raise ReliabitError(f"compared is {compared}; it counts the candidate itself, so it must be at least 1")
    roles = {"candidate": candidate, "baseline": baseline}
    if incumbent is not None:
        known = live_already(candidate, incumbent)
        if known is not None:
            return decision_on(
                candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=[known]
            )
        roles["incumbent"] = incumbent
    reasons = [*traceable(roles), comparable(roles, policy)]
    if not reasons[-1].passed:
        return decision_on(
            candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=reasons
        )
    return _measured(roles, policy, compared=compared, reasons=reasons)


def _measured(roles: Roles, policy: Policy, *, compared: int, reasons: list[Reason]) -> Decision:
    candidate, baseline, incumbent = roles["candidate"], roles["baseline"], roles.get("incumbent")
    level = level_for(policy, compared=compared)
    tables = {role: one.predictions for role, one in roles.items() if one.predictions is not None}
    try:
        found = measure_reliability(tables, policy.settings, comparisons=compared)
    except ReliabitError as error:
        failed = Reason("measurable", False, f"{error}.")
        return decision_on(
            candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=[*reasons, failed]
        )
    reasons = [
        *reasons,
        certified_coverage(found["candidate"], policy),
        accuracy_kept(found["candidate"], found["baseline"], policy, level=level),
        *slices_kept(candidate, baseline, policy, level=level),
    ]
    if incumbent is not None:
        both = [(found[role], costs_of(role, roles[role].efficiency)) for role in ("candidate", "incumbent")]
        reasons += nothing_lost(found["candidate"], found["incumbent"], policy, level=level)
        reasons.append(improvement(both[0], both[1], policy, level=level))
    return decision_on(
        candidate,
        policy,
        baseline=baseline,
        incumbent=incumbent,
        compared=compared,
        reasons=reasons,
        certificates=found["candidate"].certificates,
    )
