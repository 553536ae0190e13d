"""`registry`: which configuration goes live."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from reliabit.settings import choice, positive


@dataclass
class IncumbentConfig:
    """By how much a new version may be worse than the one that it replaces; each is shown to be less, or refused.

    Attributes:
        accuracy_loss: Of accuracy, in [0, 1].
        augrc_loss: Of AUGRC.
        coverage_loss: Of certified coverage.
    """

    accuracy_loss: float = MISSING
    augrc_loss: float = MISSING
    coverage_loss: float = MISSING


@dataclass
class RegistryConfig:
    """Which configuration goes live; see `reliabit.registry.policy`.

    Attributes:
        name: How reports call the policy.
        model: The registered model that versions are of.
        confidence: What abstains.
        objective: What is to be best among the configurations that pass.
        certified_risks: Risks that the promoted bundle carries a certified threshold for.
        required_risk: Of these, the one that coverage is required at, and that is served by default.
        minimum_coverage: The certified coverage at that risk, at least.
        accuracy_loss: The accuracy that the unquantized model may have more, less than that.
        slices: Columns of the predictions table to slice by.
        slice_loss: The accuracy that the unquantized model may have more on any slice.
        slice_questions: Slices with fewer questions are judged together.
        incumbent: What may be lost against the version that is live.
        latency_tolerance: The relative difference of latencies that means nothing.
        delta: The probability with which a certificate may fail.
        reported: The split that reports.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level of every rule, corrected for how many configurations it was chosen among.
        seed: Seeds the resamples and the draw of calibration questions.
    """

    name: str = MISSING
    model: str = MISSING
    confidence: str = choice("maxprob", "selector")
    objective: str = choice("stored_bytes", "resident_bytes", "latency", "accuracy", "augrc", "certified_coverage")
    certified_risks: list[float] = MISSING
    required_risk: float = MISSING
    minimum_coverage: float = MISSING
    accuracy_loss: float = MISSING
    slices: list[str] = MISSING
    slice_loss: float = MISSING
    slice_questions: int = positive()
    incumbent: IncumbentConfig = field(default_factory=IncumbentConfig)
    latency_tolerance: float = MISSING
    delta: float = MISSING
    reported: str = choice("dev", "test")
    resamples: int = positive()
    level: float = MISSING
    seed: int = MISSING
