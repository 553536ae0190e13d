"""Abstention thresholds with a guaranteed risk, by split fixed-sequence testing.

The claim of a certificate: with probability 1 - delta over the calibration data, the mean loss of the answers with
confidence >= threshold is at most the risk, for questions from the distribution of the calibration data. It needs
calibration data that are independent and identically distributed (one question an image) and were used for nothing
else: not for training a confidence, not for early stopping, not for choosing the grid. It says nothing about other
distributions.
"""

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError
from reliabit.metrics import p_values
from reliabit.metrics.functional.inputs import FloatArray, VectorLike, as_pair, as_scalar

Method: TypeAlias = Literal["binomial", "hoeffding_bentkus", "betting"]


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
        n_dev: Answers of the split `val`, which planned the sequence (files name it so).
        n_tested: Thresholds that were tested.
        one_per_image: Whether one question an image was drawn.
        cal_sha256: Fingerprint of the calibration confidences and accuracies.
        dev_sha256: Fingerprint of the validation confidences and accuracies.
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
    scheme: Literal["split_fixed_sequence"] = "split_fixed_sequence"
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


def certify_threshold(
    val_confidence: VectorLike,
    val_accuracy: VectorLike,
    cal_confidence: VectorLike,
    cal_accuracy: VectorLike,
    risk: float,
    delta: float,
    *,
    method: Method | Literal["auto"] = "auto",
    cal_image_ids: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    comparisons: int = 1,
    n_grid: int = 100,
    seed: int = 0,
) -> Certificate:
    """Find the lowest threshold whose selective risk is certified (Angelopoulos et al. 2021, fixed-sequence testing).

    The validation split fixes a grid of thresholds and the one that is most likely to pass; from there the calibration
    split tests one threshold after the other, each at the full level delta, towards more coverage, until one fails.
    Starting at the most confident end instead would often fail at once for want of accepted answers.

    Args:
        val_confidence: Shape `(N,)`, of a split that is independent of the calibration split. It may have trained the
            confidence: that costs power, not validity.
        val_accuracy: Shape `(N,)` in [0, 1].
        cal_confidence: Shape `(M,)`.
        cal_accuracy: Shape `(M,)` in [0, 1].
        risk: The selective risk to guarantee, in (0, 1).
        delta: The probability with which the guarantee may fail, in (0, 1).
        method: The p-value. `binomial` counts every loss above 0 as 1, which is exact for binary accuracies and only
            conservative for others. `auto` takes it if the validation accuracies are binary and `betting` otherwise.
        cal_image_ids: Shape `(M,)`. If given, one question an image is drawn and the others are left out, because
            questions about one image are not independent.
        comparisons: Among how many certificates the best will be picked; each is then tested at delta / comparisons.
        n_grid: How many thresholds the grid has at most, at equal steps of validation coverage.
        seed: Seed of the drawing and of the order in which `betting` sees the losses.

    Returns:
        The certificate; its threshold is inf where nothing passes.

    Raises:
        ReliabitError: An argument is unusable.

    >>> sure = np.linspace(1, 0, 1000)
    >>> right = np.arange(1000) < 700
    >>> certificate = certify_threshold(sure, right, sure, right, 0.05, 0.1)
    >>> certificate.n_accepted, certificate.loss_sum, round(certificate.bound, 4)
    (720, 20.0, 0.0374)
    """
    level = _check_levels(risk, delta, comparisons)
    val = as_pair(val_confidence, val_accuracy, prefix="val_")
    cal = as_pair(cal_confidence, cal_accuracy, prefix="cal_")
    if cal_image_ids is not None:
        kept = one_per_image(cal_image_ids, seed=seed, n_rows=len(cal[0]))
        cal = (cal[0][kept], cal[1][kept])
    sequence = _plan_sequence(*val, n_cal=len(cal[0]), risk=risk, level=level, n_grid=n_grid)
    answers = _shuffle(*cal, method=_choose_method(method, val[1]), level=level, seed=seed)
    passed = _count_passed(sequence, answers, risk)
    threshold = float(sequence[passed - 1]) if passed else math.inf
    losses = answers.losses(threshold)
    return Certificate(
        risk=float(risk),
        delta=float(delta),
        threshold=threshold,
        method=answers.method,
        n_cal=len(answers.confidence),
        n_accepted=len(losses),
        loss_sum=float(losses.sum()),
        p_value=answers.test(losses)(risk),
        bound=p_values.upper_bound(answers.test(losses), level),
        seed=seed,
        comparisons=comparisons,
        n_dev=len(val[0]),
        n_tested=min(passed + 1, len(sequence)),
        one_per_image=cal_image_ids is not None,
        cal_sha256=_fingerprint(*cal),
        dev_sha256=_fingerprint(*val),
        sequence_sha256=_fingerprint(sequence),
    )


def one_per_image(
    image_ids: Sequence[Hashable] | npt.NDArray[Any], *, seed: int = 0, n_rows: int | None = None
) -> npt.NDArray[np.int64]:
    """Draw one question an image, so that what is left is independent.

    Args:
        image_ids: Shape `(N,)`, the image of each question.
        seed: Seed of the draw.
        n_rows: How many there must be, if that is known.

    Returns:
        The chosen positions, ascending.

    Raises:
        ReliabitError: Their number is not `n_rows`.

    >>> one_per_image(["a", "a", "b"], seed=0)
    array([0, 2])
    """
    keys = image_ids.tolist() if isinstance(image_ids, np.ndarray) else list(image_ids)
    if n_rows is not None and len(keys) != n_rows:
        raise ReliabitError(f"cal_image_ids has {len(keys)} values and cal_confidence has {n_rows}")
    chosen: dict[Hashable, int] = {}
    for position in np.random.default_rng(seed).permutation(len(keys)).tolist():
        chosen.setdefault(keys[position], position)
    return np.array(sorted(chosen.values()), dtype=np.int64)


def _check_levels(risk: float, delta: float, comparisons: int) -> float:
    """Check the arguments of a claim and return the level at which each threshold is tested."""
    as_scalar(risk, "risk", allowed=lambda value: 0 < value < 1, rule="must lie in (0, 1)")
    as_scalar(delta, "delta", allowed=lambda value: 0 < value < 1, rule="must lie in (0, 1)")
    as_scalar(comparisons, "comparisons", allowed=lambda value: value >= 1, rule="must be at least 1")
    return delta / comparisons


def _choose_method(method: Method | Literal["auto"], val_accuracy: FloatArray) -> Method:
    """Settle `auto` by the validation accuracies alone: a choice that saw the calibration split would not be valid."""
    if method == "auto":
        return "binomial" if bool(np.isin(val_accuracy, (0.0, 1.0)).all()) else "betting"
    if method not in get_args(Method):
        raise ReliabitError(f"method is {method!r}; it must be auto or one of {', '.join(get_args(Method))}")
    return method


def _plan_sequence(
    confidence: FloatArray, accuracy: FloatArray, *, n_cal: int, risk: float, level: float, n_grid: int
) -> FloatArray:
    """The thresholds to test in this order, from validation data alone: from the most promising one downwards.

    Thresholds that would accept too few calibration answers to certify anything are left out.
    """
    from scipy.special import betainc

    ranked = np.argsort(-confidence)
    positions = np.unique(np.ceil(np.arange(1, n_grid + 1) / n_grid * len(ranked)).astype(np.int64)) - 1
    grid = np.unique(confidence[ranked][positions])[::-1]
    accepted = np.searchsorted(-confidence[ranked], -grid, side="right")
    loss = np.cumsum(1.0 - accuracy[ranked])[accepted - 1]
    scale = n_cal / len(ranked)
    enough = accepted * scale >= p_values.fewest_accepted(risk, level)
    grid, n, s = grid[enough], accepted[enough] * scale, loss[enough] * scale
    if not len(grid):
        return grid
    # The binomial tail continued to real counts, since rescaled counts are rarely whole.
    expected = betainc(np.maximum(n - s, 1e-12), s + 1, 1 - risk)
    return grid[int(np.argmin(expected)) :]


@dataclass(frozen=True, eq=False)
class _CalibrationAnswers:
    """Calibration answers in the fixed order in which tests see them.

    Attributes:
        confidence: Shape `(M,)`.
        loss: Shape `(M,)`; for `binomial` 0 or 1.
        method: The p-value.
        level: The level that is tested at, on which the bets of `betting` depend.
    """

    confidence: FloatArray
    loss: FloatArray
    method: Method
    level: float

    def losses(self, threshold: float) -> FloatArray:
        """Those of the answers that a threshold accepts."""
        return self.loss[self.confidence >= threshold]

    def test(self, losses: FloatArray) -> Callable[[float], float]:
        """Risk to p-value: the evidence of some losses against exceeding it."""
        n, total = len(losses), float(losses.sum())
        if self.method == "binomial":
            return lambda risk: p_values.binomial_p_value(n, int(total), risk)
        if self.method == "hoeffding_bentkus":
            return lambda risk: p_values.hoeffding_bentkus_p_value(n, total, risk)
        return lambda risk: p_values.betting_p_value(losses, risk, delta=self.level)


def _shuffle(
    confidence: FloatArray, accuracy: FloatArray, *, method: Method, level: float, seed: int
) -> _CalibrationAnswers:
    """Put calibration answers in a random order that depends on the seed only."""
    order = np.random.default_rng(seed).permutation(len(confidence))
    loss = 1.0 - accuracy
    counted = (loss > 0).astype(np.float64) if method == "binomial" else loss
    return _CalibrationAnswers(confidence[order], counted[order], method, level)


def _count_passed(sequence: FloatArray, answers: _CalibrationAnswers, risk: float) -> int:
    """How many thresholds of a sequence pass before the first that fails."""
    for index, threshold in enumerate(sequence):
        if answers.test(answers.losses(threshold))(risk) > answers.level:
            return index
    return len(sequence)


def _fingerprint(*arrays: FloatArray) -> str:
    """SHA-256 of float64 vectors, in order, with their lengths."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little") + np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
