"""`evaluation`: what is measured."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.settings import choice, positive


@dataclass
class EvaluationConfig:
    """What is measured, and how sure the numbers have to be.

    Attributes:
        risks: Tolerances of coverage at risk.
        costs: Costs of a wrong answer, for effective reliability.
        n_bins: Bin counts of the calibration errors.
        certified_risks: Risks to certify a threshold for.
        delta: The probability with which a certificate may fail.
        slices: Columns of the predictions table to slice by.
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
