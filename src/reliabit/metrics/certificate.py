"""What a certified threshold claims, and on what evidence."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A threshold and the claim that its selective risk is at most `risk` with probability 1 - `delta`.

    Attributes:
        risk: The guaranteed selective risk.
        delta: The probability with which the guarantee may fail.
        threshold: Accept confidence >= threshold; inf (nothing passed) abstains on everything.
        scheme: How multiple thresholds were tested.
        method: The p-value.
        n_cal: Calibration answers used.
        n_accepted: Those that the threshold accepts.
        loss_sum: Their loss, as the method counts it.
        p_value: Of the chosen threshold; 1 where nothing passed.
        bound: The smallest risk that the same evidence rejects at the tested level, for this threshold alone. It
            says how much room there was; the claim is `risk`.
        seed: Seed of the order in which losses were seen and of the draw of one question an image.
        comparisons: By how many delta was divided because the best of them is picked.
        n_dev: Dev answers that planned the sequence.
        n_tested: Thresholds that were tested.
        one_per_image: Whether one question an image was drawn.
        cal_sha256: Fingerprint of the calibration confidences and accuracies.
        dev_sha256: Fingerprint of the dev confidences and accuracies.
        sequence_sha256: Fingerprint of the thresholds that were to be tested, in order.
    """

    risk: float
    delta: float
    threshold: float
    method: str
    n_cal: int
    n_accepted: int
    loss_sum: float
    p_value: float
    bound: float
    seed: int
    cal_sha256: str
    scheme: Literal["split_fixed_sequence", "sgr"] = "split_fixed_sequence"
    comparisons: int = 1
    n_dev: int = 0
    n_tested: int = 0
    one_per_image: bool = False
    dev_sha256: str = ""
    sequence_sha256: str = ""

    @property
    def coverage(self) -> float:
        """Share of the calibration answers that the threshold accepts."""
        return self.n_accepted / self.n_cal

    def to_dict(self) -> dict[str, Any]:
        """The certificate for JSON, which has no infinity: the threshold inf becomes None."""
        return asdict(self) | {"threshold": None if math.isinf(self.threshold) else self.threshold}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Certificate":
        """Read what `to_dict` wrote."""
        threshold = math.inf if values["threshold"] is None else values["threshold"]
        return cls(**(values | {"threshold": threshold}))
