"""Promotion policies: which configuration goes live, as numbers. Their values lie in `conf/registry`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from reliabit.config import RegistryConfig
from reliabit.evaluation.cells import LATENCY, RESIDENT, STORED
from reliabit.evaluation.paired_reliability import ACCURACY, AUGRC, ParetoSettings, pareto_settings

COSTS: Mapping[str, str] = MappingProxyType({"stored_bytes": STORED, "resident_bytes": RESIDENT, "latency": LATENCY})
"""Objectives that are costs, and their metrics; the others are qualities."""


@dataclass(frozen=True)
class Margins:
    """By how much a candidate may be worse than the version that is live; shares, not percent.

    Attributes:
        accuracy_loss: Of accuracy.
        augrc_loss: Of AUGRC.
        coverage_loss: Of certified coverage.
    """

    accuracy_loss: float
    augrc_loss: float
    coverage_loss: float


@dataclass(frozen=True)
class Policy:
    """Which configuration goes live.

    Attributes:
        name: How reports call it.
        model: The registered model.
        objective: What is to be best among those that pass: one of `COSTS`, `accuracy`, `augrc`, `certified_coverage`.
        settings: The confidence, risks, delta, resamples, level and seed of every measurement.
        minimum_coverage: The certified coverage at `settings.risk`, at least.
        accuracy_loss: A loss of accuracy against the unquantized model that is larger than this has to be ruled out.
        slices: Columns of the predictions table to slice by.
        slice_loss: The same for the loss on each slice.
        slice_questions: Slices with fewer questions are judged together.
        incumbent: What may be lost against the version that is live.
    """

    name: str
    model: str
    objective: str
    settings: ParetoSettings
    minimum_coverage: float
    accuracy_loss: float
    slices: tuple[str, ...]
    slice_loss: float
    slice_questions: int
    incumbent: Margins

    @property
    def metric(self) -> str:
        """The metric of the objective."""
        qualities = {"accuracy": ACCURACY, "augrc": AUGRC, "certified_coverage": self.settings.certified_coverage}
        return {**COSTS, **qualities}[self.objective]

    def to_dict(self) -> dict[str, Any]:
        """The policy for JSON."""
        return asdict(self)


def policy_of(config: RegistryConfig) -> Policy:
    """The policy of a configuration, which `reliabit.composition.validate` has checked."""
    margins = config.incumbent
    return Policy(
        name=config.name,
        model=config.model,
        objective=config.objective,
        settings=pareto_settings(config),
        minimum_coverage=config.minimum_coverage,
        accuracy_loss=config.accuracy_loss,
        slices=tuple(config.slices),
        slice_loss=config.slice_loss,
        slice_questions=config.slice_questions,
        incumbent=Margins(margins.accuracy_loss, margins.augrc_loss, margins.coverage_loss),
    )
