"""The gate: whether a configuration goes live. A pure function of recorded evidence and a policy."""

from dataclasses import replace

from reliabit.errors import ReliabitError
from reliabit.evaluation.paired_reliability import Reliability, measure_reliability
from reliabit.evaluation.pareto_points import costs_of
from reliabit.registry.decision import Decision, Reason, decision_on
from reliabit.registry.evidence import Configuration, Live
from reliabit.registry.incumbent_rules import improvement, nothing_lost, promises_kept, renewal
from reliabit.registry.policy import Policy
from reliabit.registry.provenance import Roles, comparable, live_already, representation, traceable
from reliabit.registry.reliability_rules import accuracy_kept, certified_coverage, level_for, slices_kept


def decide(
    candidate: Configuration,
    incumbent: Live | None,
    policy: Policy,
    *,
    baseline: Configuration,
    compared: int,
) -> Decision:
    """Decide whether a candidate goes live.

    Every rule is applied that can be, so that a refusal names all there is to mend.

    Args:
        candidate: The configuration in question.
        incumbent: What is live, at its own terms; `None` for a first promotion.
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
        known = live_already(candidate, incumbent, policy)
        if known is not None:
            return decision_on(
                candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=[known]
            )
        roles["incumbent"] = incumbent.measured
    reasons = [
        *representation(incumbent),
        *traceable(roles),
        comparable(roles, policy, live=incumbent.terms if incumbent else None),
    ]
    if not reasons[-1].passed:
        return decision_on(
            candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=reasons
        )
    return _judged(roles, incumbent, policy, compared=compared, reasons=reasons)


def _judged(roles: Roles, incumbent: Live | None, policy: Policy, *, compared: int, reasons: list[Reason]) -> Decision:
    candidate, baseline = roles["candidate"], roles["baseline"]
    level = level_for(policy, compared=compared)
    try:
        found = _measured(roles, incumbent, policy, compared=compared)
    except ReliabitError as error:
        failed = Reason("measurable", False, f"{error}.")
        return decision_on(
            candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=[*reasons, failed]
        )
    reasons = [
        *reasons,
        certified_coverage(found["candidate"], policy, level=level),
        accuracy_kept(found["candidate"], found["baseline"], policy, level=level),
        *slices_kept(candidate, baseline, policy, level=level),
    ]
    if incumbent is not None:
        both = [(found[role], costs_of(role, roles[role].efficiency)) for role in ("candidate", "incumbent")]
        reasons.append(promises_kept(incumbent.terms, policy))
        reasons += nothing_lost(found["candidate"], found["incumbent"], policy, level=level)
        reasons.append(renewal(candidate, incumbent, policy) or improvement(both[0], both[1], policy, level=level))
    return decision_on(
        candidate,
        policy,
        baseline=baseline,
        incumbent=incumbent,
        compared=compared,
        reasons=reasons,
        certificates=found["candidate"].certificates,
    )


def _measured(roles: Roles, incumbent: Live | None, policy: Policy, *, compared: int) -> dict[str, Reliability]:
    """What the answers of each are worth, those of what is live by the confidence that it abstains by.

    All were asked the same questions, so that resamples of the two measurements draw the same images.
    """
    tables = {role: one.predictions for role, one in roles.items() if one.predictions is not None}
    if incumbent is None or incumbent.terms.confidence == policy.settings.confidence:
        return measure_reliability(tables, policy.settings, comparisons=compared)
    live = {"incumbent": tables.pop("incumbent")}
    settings = replace(policy.settings, confidence=incumbent.terms.confidence)
    return {
        **measure_reliability(tables, policy.settings, comparisons=compared),
        **measure_reliability(live, settings, comparisons=compared),
    }
