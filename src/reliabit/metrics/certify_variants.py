"""Certificates for several domains at once, and SGR as the comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.certificate import Certificate
from reliabit.metrics.certify import (
    Method,
    check_levels,
    choose_method,
    fingerprint,
    gather,
    plan_sequence,
    walk,
)
from reliabit.metrics.functional.inputs import VectorLike, as_pair


@dataclass(frozen=True)
class DomainCertificate:
    """A threshold that holds on every one of several domains, and hence on any mixture of them.

    Attributes:
        risk: The guaranteed selective risk of each domain.
        delta: The probability with which any of the guarantees may fail.
        threshold: Accept confidence >= threshold; inf where a domain has no threshold.
        domains: Name to the evidence of that domain at the threshold, tested at delta / number of domains.
    """

    risk: float
    delta: float
    threshold: float
    domains: Mapping[str, Certificate]

    def to_dict(self) -> dict[str, Any]:
        """The certificate for JSON; inf becomes None."""
        return {
            "risk": self.risk,
            "delta": self.delta,
            "threshold": None if np.isinf(self.threshold) else self.threshold,
            "domains": {name: certificate.to_dict() for name, certificate in self.domains.items()},
        }


def certify_domains(
    dev_confidence: VectorLike,
    dev_accuracy: VectorLike,
    domains: Mapping[str, tuple[VectorLike, VectorLike]],
    risk: float,
    delta: float,
    *,
    method: Method | Literal["auto"] = "auto",
    comparisons: int = 1,
    n_grid: int = 100,
    seed: int = 0,
) -> DomainCertificate:
    """Certify one threshold for several domains, each on its own calibration set at delta / D.

    All domains walk the same sequence, and the highest of their thresholds is taken. A domain's guarantee covers every
    threshold that it passed on the way, hence that one too; with a sequence of its own it would not, because selective
    risk need not fall with the threshold. The selective risk of a mixture is a convex combination of those of its
    domains, so any mixture is covered.

    Args:
        dev_confidence: Shape `(N,)`, see `certify_threshold`; best from all domains.
        dev_accuracy: Shape `(N,)` in [0, 1].
        domains: Name to the confidences and accuracies of its calibration set, one question an image.
        risk: The selective risk to guarantee, in (0, 1).
        delta: The probability with which any guarantee may fail, in (0, 1).
        method: The p-value, see `certify_threshold`.
        comparisons: Among how many certificates the best will be picked.
        n_grid: How many thresholds the grid has at most.
        seed: Seed of the order in which `betting` sees the losses.

    Returns:
        The certificate.

    Raises:
        ReliabitError: An argument is unusable.
    """
    if not domains:
        raise ReliabitError("domains is empty; at least one calibration set is needed")
    level = check_levels(risk, delta, comparisons * len(domains))
    dev = as_pair(dev_confidence, dev_accuracy, prefix="dev_")
    pairs = {name: as_pair(*pair, prefix=f"domains[{name!r}].") for name, pair in domains.items()}
    fewest = min(len(confidence) for confidence, _ in pairs.values())
    sequence = plan_sequence(*dev, n_cal=fewest, risk=risk, level=level, n_grid=n_grid)
    chosen = choose_method(method, dev[1])
    evidence = {name: gather(*pair, method=chosen, level=level, seed=seed) for name, pair in pairs.items()}
    passed = min(walk(sequence, one, risk) for one in evidence.values())
    threshold = float(sequence[passed - 1]) if passed else np.inf
    certificates = {
        name: replace(
            one.certificate(threshold, risk=risk, delta=delta),
            comparisons=comparisons * len(domains),
            n_dev=len(dev[0]),
            n_tested=min(passed + 1, len(sequence)),
            dev_sha256=fingerprint(*dev),
            sequence_sha256=fingerprint(sequence),
        )
        for name, one in evidence.items()
    }
    return DomainCertificate(float(risk), float(delta), threshold, certificates)


def sgr_threshold(cal_confidence: VectorLike, cal_accuracy: VectorLike, risk: float, delta: float) -> Certificate:
    """Selection with guaranteed risk (Geifman and El-Yaniv 2017), for comparison; `certify_threshold` answers more.

    A binary search over the sorted calibration confidences with the exact binomial bound at delta / ceil(log2 M). The
    last threshold that passes is returned; the published code returns the last that was tried, passing or not.
    Losses above 0 count as 1.

    Args:
        cal_confidence: Shape `(M,)`.
        cal_accuracy: Shape `(M,)` in [0, 1].
        risk: The selective risk to guarantee, in (0, 1).
        delta: The probability with which the guarantee may fail, in (0, 1).

    Returns:
        The certificate; its threshold is inf where nothing passes.

    Raises:
        ReliabitError: An argument is unusable.

    >>> sure = np.linspace(1, 0, 1000)
    >>> sgr_threshold(sure, np.arange(1000) < 700, 0.05, 0.1).n_accepted
    722
    """
    confidence, accuracy = as_pair(cal_confidence, cal_accuracy, prefix="cal_")
    steps = max(1, int(np.ceil(np.log2(len(confidence)))))
    level = check_levels(risk, delta, steps)
    evidence = gather(confidence, accuracy, method="binomial", level=level, seed=0)
    ascending = np.sort(confidence)
    low, high, threshold = 0, len(ascending) - 1, np.inf
    for _ in range(steps):
        middle = -(-(low + high) // 2)
        if evidence.p_value(ascending[middle], risk) <= level:
            threshold, high = float(ascending[middle]), middle
        else:
            low = middle
    certificate = evidence.certificate(threshold, risk=risk, delta=delta)
    return replace(certificate, scheme="sgr", comparisons=1, n_tested=steps)
