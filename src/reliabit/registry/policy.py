"""Promotion policies: which configuration goes live, as numbers. Their values lie in `conf/registry`."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.evaluation.settings import ParetoSettings, check_probabilities
from reliabit.settings import MISSING, choice, positive

COSTS = ("stored_bytes", "resident_bytes", "latency")
"""Objectives that are costs; the others are qualities."""


@dataclass
class Margins:
    """By how much a new version may be worse than the one that it replaces; each is shown to be less, or refused.

    Shares, not percent.

    Attributes:
        accuracy_loss: Of accuracy.
        augrc_loss: Of AUGRC.
        coverage_loss: Of certified coverage.
    """

    accuracy_loss: float = MISSING
    augrc_loss: float = MISSING
    coverage_loss: float = MISSING

    def check(self, key: str) -> None:
        """Check that each is a share."""
        _check_shares(self, *(entry.name for entry in fields(self)), key=key)


@dataclass
class Policy(ParetoSettings):
    """`registry`: which configuration goes live. What is measured for it, `ParetoSettings` says.

    Attributes:
        name: How reports call it.
        model: The registered model that versions are of.
        objective: What is to be best among those that pass.
        minimum_coverage: The certified coverage at `required_risk`, at least.
        accuracy_loss: The accuracy that the unquantized model may have more; a larger loss has to be ruled out.
        slices: Columns of the predictions table to slice by.
        slice_loss: The same for the loss on each slice.
        slice_confidently_wrong: By how much the share of confidently wrong answers may rise on a slice; null names the
            slice that fares worst, and refuses nothing.
        slice_coverage_loss: The same for the loss of the share that the certified threshold answers.
        slice_questions: Slices with fewer questions are judged together.
        incumbent: What may be lost against the version that is live.
    """

    name: str = MISSING
    model: str = MISSING
    objective: str = choice(*COSTS, "accuracy", "augrc", "certified_coverage")
    minimum_coverage: float = MISSING
    accuracy_loss: float = MISSING
    slices: list[str] = MISSING
    slice_loss: float = MISSING
    slice_questions: int = positive()
    slice_confidently_wrong: float | None = None
    slice_coverage_loss: float | None = None
    incumbent: Margins = field(default_factory=Margins)

    def check(self, key: str) -> None:
        """Check shares and probabilities.

        Raises:
            ReliabitError: One is none, or the required risk is not certified.
        """
        optional = [
            name for name in ("slice_confidently_wrong", "slice_coverage_loss") if getattr(self, name) is not None
        ]
        shares = ("minimum_coverage", "accuracy_loss", "slice_loss", "latency_tolerance")
        _check_shares(self, *shares, *optional, key=key)
        check_probabilities(self, "delta", "level", key=key)
        if self.level <= 0.5:
            raise ReliabitError(f"{key}.level={self.level} is no confidence; it must lie above 0.5")
        if self.required_risk not in self.certified_risks:
            raise ReliabitError(
                f"{key}.required_risk={self.required_risk} is not among "
                f"{key}.certified_risks={self.certified_risks}; certify it as well"
            )

    @property
    def metric(self) -> str:
        """The metric of the objective."""
        # Hydra composes this class for every run, and must not wait for numpy.
        from reliabit.evaluation.cells import LATENCY, RESIDENT, STORED
        from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC

        costs = dict(zip(COSTS, (STORED, RESIDENT, LATENCY), strict=True))
        qualities = {"accuracy": ACCURACY, "augrc": AUGRC, "certified_coverage": self.certified_coverage}
        return {**costs, **qualities}[self.objective]

    def to_dict(self) -> dict[str, Any]:
        """The policy as decisions record it: what is measured stands below `settings`."""
        values = asdict(self)
        measured = {entry.name: values.pop(entry.name) for entry in fields(ParetoSettings)}
        settings = {"risk" if name == "required_risk" else name: value for name, value in measured.items()}
        called = {name: values.pop(name) for name in ("name", "model", "objective")}
        return {**called, "settings": settings, **values}


def _check_shares(settings: object, *names: str, key: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise ReliabitError(f"{key}.{name}={value} must be a share, from 0 to below 1")
