"""What a policy would choose among the cells of a sweep, in a few sentences, before anybody asks it to promote."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell, families_of
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.registry.choosing import Choice, choose
from reliabit.registry.decision import Decision
from reliabit.registry.policy import Policy

OBJECTIVES = {
    "stored_bytes": "the fewest stored bytes",
    "resident_bytes": "the least memory",
    "latency": "the fewest milliseconds a question",
    "accuracy": "the highest accuracy",
    "augrc": "the smallest AUGRC",
    "certified_coverage": "the highest certified coverage",
}


@dataclass(frozen=True)
class Verdict:
    """What a policy says of cells that differ in their quantization alone.

    Attributes:
        text: Which it would choose and why, or why none.
        chosen: The run that it would choose; `None` where none passes.
    """

    text: str
    chosen: str | None


def verdicts(cells: Sequence[Cell], policy: Policy) -> list[Verdict]:
    """What a policy would choose, of each model and data set.

    Whether the code was committed is left out of account, as it is none of a cell's merits; it is said beside.

    Args:
        cells: The cells that finished.
        policy: The policy; MaxProb stands for its confidence where a cell lacks that.
    """
    return [_verdict(members, policy) for members in families_of(cells)]


def _verdict(cells: Sequence[Cell], policy: Policy) -> Verdict:
    everywhere = all(policy.confidence in cell.confidences for cell in cells)
    own = policy if everywhere else replace(policy, confidence=MAXPROB)
    where = cells[0].place
    try:
        choice = choose([replace(cell, dirty=()) for cell in cells], own)
    except ReliabitError as error:
        return Verdict(f"{where}: these cells cannot be judged: {error}", None)
    said = _chosen(choice, own) if choice.candidate else _none(choice, own)
    if not everywhere:
        said += f" Cells lack {policy.confidence}, so this is by MaxProb: promote with registry.confidence={MAXPROB}."
    dirty = " Its code was not all committed, which promoting takes." if any(cell.dirty for cell in cells) else ""
    return Verdict(f"{where}: {said}{dirty}", choice.candidate.run_id if choice.candidate else None)


def _chosen(choice: Choice, policy: Policy) -> str:
    candidate = choice.candidate
    if candidate is None:
        raise TypeError("there is a candidate to tell of")
    passing = sum(decision.accepted for decision in choice.decisions)
    return (
        f"deploy {_spoken(candidate)}. The policy {policy.name} would choose it: of the {passing} of "
        f"{len(choice.decisions)} configurations that pass every rule, it takes {OBJECTIVES[policy.objective]}."
    )


def _spoken(cell: Cell) -> str:
    """A configuration as people say it, such as `hqq at 4 bits`."""
    if cell.unquantized:
        return "the unquantized model"
    return cell.quantizer if cell.mixed else f"{cell.quantizer} at {cell.bits} bits"


def _none(choice: Choice, policy: Policy) -> str:
    """Why none passes, by the one that fails the fewest rules."""

    def failed(decision: Decision) -> list[str]:
        return [reason.text for reason in decision.reasons if not reason.passed]

    # The unquantized model differs in nothing from itself, and is no width to choose.
    others = [one for one in choice.decisions if one.candidate != one.baseline] or list(choice.decisions)
    nearest = min(others, key=lambda decision: len(failed(decision)))
    return (
        f"deploy none of these yet. The policy {policy.name} lets none of {len(choice.decisions)} configurations pass. "
        f"Nearest is {nearest.candidate}: {failed(nearest)[0]}"
    )
