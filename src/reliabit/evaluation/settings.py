"""What is measured, and how sure the numbers have to be: in a report, and of configurations that are compared."""

from dataclasses import dataclass

from reliabit.errors import ReliabitError
from reliabit.settings import MISSING, choice, positive


@dataclass
class EvaluationConfig:
    """`evaluation`: what is measured, and how sure the numbers have to be.

    Attributes:
        risks: Tolerances of coverage at risk.
        costs: Costs of a wrong answer, for effective reliability.
        n_bins: Bin counts of the calibration errors.
        certified_risks: Risks to certify a threshold for.
        delta: The probability with which a certificate may fail.
        slices: Columns to slice by: of the predictions table, or further ones of a table of one's own.
        reported: The split that reports.
        mixtures: Mixtures of the questions as they are with those of some shifts, by name.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level of intervals.
        seed: Seeds the resamples and the draw of calibration questions.
    """

    risks: list[float] = MISSING
    costs: list[float] = MISSING
    n_bins: list[int] = MISSING
    certified_risks: list[float] = MISSING
    delta: float = MISSING
    slices: list[str] = MISSING
    reported: str = choice("dev", "test")
    mixtures: dict[str, list[str]] = MISSING
    resamples: int = positive()
    level: float = MISSING
    seed: int = MISSING

    def check(self, key: str) -> None:
        """Check the probabilities."""
        check_probabilities(self, "delta", "level", key=key)


@dataclass
class ParetoSettings:
    """What is measured of each configuration that is compared, and how.

    Attributes:
        confidence: What abstains.
        required_risk: The risk of coverage at risk and of the certified coverage that are compared.
        certified_risks: All risks to certify, `required_risk` among them.
        delta: The probability with which each certificate may fail.
        reported: The split that reports.
        resamples: Resamples of the bootstrap by image.
        level: Confidence level, corrected for how many configurations the best is chosen among.
        seed: Seeds the resamples and the draw of calibration questions.
        latency_tolerance: The relative difference of latencies that means nothing.
    """

    confidence: str = choice("maxprob", "selector")
    required_risk: float = MISSING
    certified_risks: list[float] = MISSING
    delta: float = MISSING
    reported: str = choice("dev", "test")
    resamples: int = positive()
    level: float = MISSING
    seed: int = MISSING
    latency_tolerance: float = MISSING

    @property
    def coverage(self) -> str:
        """The metric of coverage at risk, such as that of 5 %."""
        # Hydra composes this class for every run, and must not wait for numpy.
        from reliabit.metrics import definitions

        return definitions.coverage_at(self.required_risk).name

    @property
    def certified_coverage(self) -> str:
        """The metric of certified coverage, such as that of 5 %."""
        from reliabit.metrics import definitions

        return definitions.certified_coverage_at(self.required_risk).name


def check_probabilities(settings: object, *names: str, key: str) -> None:
    """Check that some settings lie between 0 and 1.

    Raises:
        ReliabitError: One does not.
    """
    for name in names:
        if not 0 < getattr(settings, name) < 1:
            raise ReliabitError(f"{key}.{name}={getattr(settings, name)} must lie between 0 and 1")
