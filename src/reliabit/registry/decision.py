"""What the gate says of a candidate, for people and for records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.tables import markdown_table
from reliabit.metrics import Certificate
from reliabit.metrics.intervals import Interval
from reliabit.registry.policy import Policy

NEW = "new"
"""The rule that what is live already does not meet."""


@dataclass(frozen=True)
class Reason:
    """One rule and what became of it.

    Attributes:
        rule: The rule.
        passed: Whether the candidate meets it.
        text: Why, in one sentence with its figures.
    """

    rule: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """Whether a candidate goes live, and why.

    Attributes:
        candidate: Its name.
        run_id: Its run.
        fingerprint: Its identity.
        baseline: The name of the unquantized model that it was compared with.
        incumbent: The name of the version that it would replace; `None` for a first promotion.
        policy: The policy.
        compared: Among how many configurations it was chosen.
        reasons: Every rule that was applied.
        certificates: Of the candidate, one a certified risk of the policy, valid for the best of `compared`; none
            where they could not be computed.
        measured: What the candidate's answers are worth, by label, as the rules saw it; see
            `reliabit.evaluation.paired_reliability.label`.
    """

    candidate: str
    run_id: str
    fingerprint: str
    baseline: str | None
    incumbent: str | None
    policy: Policy
    compared: int
    reasons: tuple[Reason, ...]
    certificates: tuple[Certificate, ...] = ()
    measured: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether every rule is met."""
        return all(reason.passed for reason in self.reasons)

    @property
    def unchanged(self) -> bool:
        """Whether the candidate is what is live already, so that there is nothing to decide."""
        return any(reason.rule == NEW and not reason.passed for reason in self.reasons)

    @property
    def verdict(self) -> str:
        """`accepted`, `refused` or `unchanged`."""
        if self.unchanged:
            return "unchanged"
        return "accepted" if self.accepted else "refused"

    def markdown(self) -> str:
        """The decision for people."""
        lines = [[reason.rule, "yes" if reason.passed else "NO", reason.text] for reason in self.reasons]
        said = "live already, and judged no further" if self.unchanged else self.verdict
        return (
            f"{self.candidate} is {said} by the policy {self.policy.name} "
            f"(baseline {self.baseline or 'none'}, {_replaces(self.incumbent)}, chosen among {self.compared}).\n\n"
            f"{markdown_table(['rule', 'passed', 'why'], lines)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The decision for JSON."""
        return {
            "accepted": self.accepted,
            "candidate": self.candidate,
            "run_id": self.run_id,
            "fingerprint": self.fingerprint,
            "baseline": self.baseline,
            "incumbent": self.incumbent,
            "compared": self.compared,
            "policy": self.policy.to_dict(),
            "reasons": [asdict(reason) for reason in self.reasons],
            "certificates": [certificate.to_dict() for certificate in self.certificates],
            "measured": {label: _finite(asdict(found)) for label, found in self.measured.items()},
        }


def decision_on(
    candidate: Cell,
    policy: Policy,
    *,
    baseline: Cell | None,
    incumbent: str | None,
    compared: int,
    reasons: Sequence[Reason],
    certificates: Sequence[Certificate] = (),
    measured: Mapping[str, Interval] | None = None,
) -> Decision:
    """A decision about cells, of which it keeps the names alone."""
    return Decision(
        candidate=candidate.name,
        run_id=candidate.run_id,
        fingerprint=candidate.fingerprint,
        baseline=baseline.name if baseline else None,
        incumbent=incumbent,
        policy=policy,
        compared=compared,
        reasons=tuple(reasons),
        certificates=tuple(certificates),
        measured=measured or {},
    )


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _replaces(incumbent: str | None) -> str:
    return f"replaces {incumbent}" if incumbent else "replaces none"
