"""The gate: whether a configuration goes live. A pure function of recorded evidence and a policy.

Here are also its first rules, about where the evidence comes from: numbers that cannot be traced or paired decide
nothing.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell, costs_of
from reliabit.evaluation.paired_reliability import Measurements, Reliability
from reliabit.evaluation.prediction_columns import (
    CERTIFIED,
    CONFIDENCE_PREFIX,
    MAXPROB,
    THRESHOLDS,
    check_same_questions,
)
from reliabit.registry._reliability_rules import accuracy_kept, certified_coverage, slices_kept
from reliabit.registry.decision import Decision, Reason, decision_on
from reliabit.registry.incumbent import (
    Live,
    improvement,
    live_already,
    nothing_lost,
    promises_kept,
    renewal,
    representation,
)
from reliabit.registry.policy import Policy
from reliabit.registry.terms import Terms

Roles = Mapping[str, Cell]
"""The cells by the part they play: `candidate`, `baseline` and, unless it is the first, `incumbent`."""


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
    live = incumbent.name if incumbent else None
    decided = partial(decision_on, candidate, policy, baseline=baseline, incumbent=live, compared=compared)
    roles = {"candidate": candidate, "baseline": baseline}
    if incumbent is not None:
        known = live_already(candidate, incumbent, policy)
        if known is not None:
            return decided(reasons=[known])
        roles["incumbent"] = incumbent.measured
    reasons = [
        *representation(incumbent),
        *_traceable(roles),
        comparable(roles, policy, live=incumbent.terms if incumbent else None),
    ]
    if not reasons[-1].passed:
        return decided(reasons=reasons)
    measurements = measurements or Measurements(policy, compared)
    decided = partial(decided, compared=measurements.comparisons)
    try:
        found = _measured(roles, incumbent, measurements)
    except ReliabitError as error:
        return decided(reasons=[*reasons, Reason("measurable", False, f"{error}.")])
    return decided(
        reasons=[*reasons, *_reliable(roles, incumbent, policy, found=found, level=measurements.level)],
        certificates=found["candidate"].certificates,
        measured=measurements.named(found["candidate"]),
    )


def _reliable(
    roles: Roles, incumbent: Live | None, policy: Policy, *, found: Mapping[str, Reliability], level: float
) -> Iterator[Reason]:
    """Whether the candidate can be trusted against the unquantized model and, where there is one, what is live."""
    candidate, baseline = roles["candidate"], roles["baseline"]
    yield certified_coverage(found["candidate"], policy, level=level)
    yield accuracy_kept(found["candidate"], found["baseline"], policy, level=level)
    yield from slices_kept(candidate, baseline, policy, found=found, level=level)
    if incumbent is None:
        return
    yield promises_kept(incumbent.terms, policy)
    yield from nothing_lost(found["candidate"], found["incumbent"], policy, level=level)
    again = renewal(candidate, incumbent, policy)
    yield again or improvement(found["candidate"], found["incumbent"], policy, level=level)


def _measured(roles: Roles, incumbent: Live | None, measurements: Measurements) -> dict[str, Reliability]:
    """What the answers of each are worth, those of what is live by the confidence that it abstains by."""
    judged = [roles["candidate"], roles["baseline"]]
    found = dict(zip(("candidate", "baseline"), measurements.of(judged), strict=True))
    if incumbent is not None:
        [found["incumbent"]] = measurements.of([incumbent.measured], confidence=incumbent.terms.confidence)
    return found


def _traceable(roles: Roles) -> list[Reason]:
    """Whether the runs finished, from committed code and data, on the same data, with a baseline that is one.

    The incumbent is live whatever its run was like, so that only its data matter.
    """
    return [_finished(roles), _clean(roles), _same_data(roles), _baseline(roles)]


def comparable(roles: Roles, policy: Policy, *, live: Terms | None = None) -> Reason:
    """Whether all cells hold what the other rules measure, about the same questions.

    Args:
        roles: The cells.
        policy: What the candidate and its baseline are measured by.
        live: What the incumbent is measured by.
    """
    rule = "comparable"
    abstains = {f"incumbent {one.name}": live.confidence for role, one in roles.items() if live and role == "incumbent"}
    lacking = [f"{role} {one.name} recorded no predictions" for role, one in roles.items() if one.predictions is None]
    tables = {f"{role} {one.name}": one.predictions for role, one in roles.items() if one.predictions is not None}
    for name, table in tables.items():
        columns = [f"{CONFIDENCE_PREFIX}{abstains.get(name, policy.confidence)}", *policy.slices]
        lacking += [f"{name} has no column {column}" for column in columns if column not in table.column_names]
    if lacking:
        # The policy's confidence is what runs lack most often.
        unknown = any(one.endswith(f"{CONFIDENCE_PREFIX}{policy.confidence}") for one in lacking)
        other = f" (confidence={policy.confidence}), or judge by registry.confidence={MAXPROB}" if unknown else ""
        return Reason(
            rule, False, f"{'; '.join(lacking)}: run it again with what the policy {policy.name} needs{other}."
        )
    try:
        for role, one in roles.items():
            costs_of(f"{role} {one.name}", one.metrics)
        check_same_questions(tables, splits=(policy.reported, THRESHOLDS, CERTIFIED))
    except ReliabitError as error:
        return Reason(rule, False, f"{error}.")
    return Reason(rule, True, f"{_listed(roles)} answered the same questions, and the cost of each is known.")


def _finished(roles: Roles) -> Reason:
    judged = {role: one for role, one in roles.items() if role != "incumbent"}
    unfinished = [f"{role} {one.name} is {one.status}" for role, one in judged.items() if not one.finished]
    if unfinished:
        return Reason("finished", False, f"{'; '.join(unfinished)}: only finished runs count.")
    return Reason("finished", True, f"the runs of {_listed(judged)} finished.")


def _clean(roles: Roles) -> Reason:
    judged = {role: one for role, one in roles.items() if role != "incumbent"}
    dirty = [f"{role} {one.name}: {', '.join(one.dirty)}" for role, one in judged.items() if one.dirty]
    if dirty:
        return Reason("clean", False, f"{'; '.join(dirty)}: commit the changes and run it again.")
    return Reason("clean", True, f"{_listed(judged)} ran from committed code and data.")


def _same_data(roles: Roles) -> Reason:
    own = dict(roles["candidate"].inputs)
    for role, one in roles.items():
        theirs = dict(one.inputs)
        if theirs != own:
            names = sorted(name for name in {*own, *theirs} if own.get(name) != theirs.get(name))
            remedy = (
                "run that configuration in the candidate's sweep as well, and it stands for the live version"
                if role == "incumbent"
                else "run the configurations on the same data"
            )
            return Reason(
                "same data",
                False,
                f"candidate and {role} {one.name} read different data ({', '.join(names)}): {remedy}.",
            )
    if not own:
        return Reason("same data", False, "the candidate recorded no digests of its data: run it again.")
    return Reason("same data", True, f"{_listed(roles)} read the same data ({len(own)} digests).")


def _baseline(roles: Roles) -> Reason:
    candidate, baseline = roles["candidate"], roles["baseline"]
    if not baseline.unquantized:
        return Reason("baseline", False, f"{baseline.name} is quantized: compare with the run of quant=none.")
    if dict(baseline.model) != dict(candidate.model):
        return Reason(
            "baseline", False, f"{baseline.name} is of another model: compare with the one that is quantized."
        )
    return Reason("baseline", True, f"{baseline.name} is the same model, unquantized.")


def _listed(roles: Roles) -> str:
    *others, last = roles
    return f"{', '.join(others)} and {last}" if others else last
