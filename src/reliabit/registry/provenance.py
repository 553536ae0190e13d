"""Rules about where the evidence comes from: numbers that cannot be traced or paired decide nothing."""

from collections.abc import Mapping

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell, costs_of
from reliabit.evaluation.prediction_columns import CERTIFIED, CONFIDENCE_PREFIX, THRESHOLDS, check_same_questions
from reliabit.registry.decision import NEW, Reason
from reliabit.registry.evidence import Live
from reliabit.registry.policy import Policy
from reliabit.registry.terms import Terms, terms_of_settings

Roles = Mapping[str, Cell]
"""The cells by the part they play: `candidate`, `baseline` and, unless it is the first, `incumbent`."""


def traceable(roles: Roles) -> list[Reason]:
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
        columns = [f"{CONFIDENCE_PREFIX}{abstains.get(name, policy.settings.confidence)}", *policy.slices]
        lacking += [f"{name} has no column {column}" for column in columns if column not in table.column_names]
    if lacking:
        return Reason(rule, False, f"{'; '.join(lacking)}: run it again with what the policy {policy.name} needs.")
    try:
        for role, one in roles.items():
            costs_of(f"{role} {one.name}", one.metrics)
        check_same_questions(tables, splits=(policy.settings.reported, THRESHOLDS, CERTIFIED))
    except ReliabitError as error:
        return Reason(rule, False, f"{error}.")
    return Reason(rule, True, f"{_listed(roles)} answered the same questions, and the cost of each is known.")


def live_already(candidate: Cell, incumbent: Live, policy: Policy) -> Reason | None:
    """The reason to leave what is live as it is, if the candidate is that, at the same terms."""
    terms = terms_of_settings(policy.settings)
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
