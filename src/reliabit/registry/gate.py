"""The gate: whether a configuration goes live. A pure function of recorded evidence and a policy."""

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import Measurements, Reliability
from reliabit.registry.decision import Decision, Reason, decision_on
from reliabit.registry.evidence import Live
from reliabit.registry.incumbent_rules import improvement, nothing_lost, promises_kept, renewal
from reliabit.registry.policy import Policy
from reliabit.registry.provenance import Roles, comparable, live_already, representation, traceable
from reliabit.registry.reliability_rules import accuracy_kept, certified_coverage, slices_kept


def decide(
    candidate: Cell,
    incumbent: Live | None,
    policy: Policy,
    *,
    baseline: Cell,
    compared: int,
    measurements: Measurements | None = None,
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
        measurements: What was measured before by this policy among as many; what is lacking is added.

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
    return _judged(roles, incumbent, policy, measurements or Measurements(policy, compared), reasons=reasons)


def _judged(
    roles: Roles, incumbent: Live | None, policy: Policy, measurements: Measurements, *, reasons: list[Reason]
) -> Decision:
    candidate, baseline = roles["candidate"], roles["baseline"]
    compared, level = measurements.comparisons, measurements.level
    try:
        found = _measured(roles, incumbent, measurements)
    except ReliabitError as error:
        failed = Reason("measurable", False, f"{error}.")
        return decision_on(
            candidate, policy, baseline=baseline, incumbent=incumbent, compared=compared, reasons=[*reasons, failed]
        )
    named = measurements.named(found["candidate"])
    reasons = [
        *reasons,
        certified_coverage(found["candidate"], policy, level=level),
        accuracy_kept(found["candidate"], found["baseline"], policy, level=level),
        *slices_kept(candidate, baseline, policy, level=level),
    ]
    if incumbent is not None:
        reasons.append(promises_kept(incumbent.terms, policy))
        reasons += nothing_lost(found["candidate"], found["incumbent"], policy, level=level)
        reasons.append(
            renewal(candidate, incumbent, policy)
            or improvement(found["candidate"], found["incumbent"], policy, level=level)
        )
    return decision_on(
        candidate,
        policy,
        baseline=baseline,
        incumbent=incumbent,
        compared=compared,
        reasons=reasons,
        certificates=found["candidate"].certificates,
        measured=named,
    )


def _measured(roles: Roles, incumbent: Live | None, measurements: Measurements) -> dict[str, Reliability]:
    """What the answers of each are worth, those of what is live by the confidence that it abstains by."""
    judged = [roles["candidate"], roles["baseline"]]
    found = dict(zip(("candidate", "baseline"), measurements.of(judged), strict=True))
    if incumbent is not None:
        [found["incumbent"]] = measurements.of([incumbent.measured], confidence=incumbent.terms.confidence)
    return found
