"""What every metric accepts: one-dimensional tensors, arrays or lists of numbers, checked once and named in errors."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import torch

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
VectorLike: TypeAlias = "npt.ArrayLike | torch.Tensor"

# The VQA accuracy is a multiple of 1/10 for ten annotators, and of 1/7560 for any number of them up to ten
# (7560 is the least common multiple of 3n, n = 1..10). Losses counted in such units add up without rounding.
UNITS = (10, 7560)
_DOUBLE_SLACK = 1e-14


def _as_vector(values: VectorLike, name: str) -> tuple[FloatArray, float]:
    """A float64 vector, and the rounding error that its original type had at 1 (0 for integers and booleans)."""
    array, precision = _from_tensor(values) if hasattr(values, "detach") else _from_array(values, name)
    if array.ndim != 1:
        raise ReliabitError(f"{name} must have one dimension and has the shape {tuple(array.shape)}")
    if array.size == 0:
        raise ReliabitError(f"{name} is empty; at least one value is needed")
    return array, precision


def _from_tensor(tensor: Any) -> tuple[FloatArray, float]:
    import torch

    precision = torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0
    return tensor.detach().cpu().double().numpy(), precision


def _from_array(values: VectorLike, name: str) -> tuple[FloatArray, float]:
    try:
        array = np.asarray(values)
        precision = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
        if array.dtype.kind not in "biufO":
            raise TypeError(f"{array.dtype} is not a real type")
        return array.astype(np.float64), precision
    except (TypeError, ValueError) as error:
        raise ReliabitError(f"{name} must be a list of real numbers: {error}") from error


def _reject(bad: BoolArray, values: FloatArray, name: str, rule: str) -> None:
    if bad.any():
        index = int(bad.argmax())
        raise ReliabitError(f"{name}[{index}] is {values[index]:g}; {rule}")


def as_confidence(values: VectorLike, *, name: str = "confidence", probability: bool = False) -> FloatArray:
    """Check confidences, of which higher means surer.

    Args:
        values: Shape `(N,)`. Any real score ranks; +inf is refused because it means "abstain" as a threshold.
        name: What the values are called in errors.
        probability: Whether they must lie in [0, 1], as calibration metrics need. A logit is never recognised and
            converted.

    Returns:
        Shape `(N,)`, float64.

    Raises:
        ReliabitError: A value is NaN, +inf or, for probabilities, outside [0, 1].

    >>> as_confidence([0.5, 2])
    array([0.5, 2. ])
    """
    vector, _ = _as_vector(values, name)
    if probability:
        rule = "a calibration metric needs probabilities in [0, 1], and logits are not converted"
        _reject(~((vector >= 0) & (vector <= 1)), vector, name, rule)
    _reject(~(vector < np.inf), vector, name, "every confidence must be a number below infinity")
    return vector


def as_accuracy(values: VectorLike, *, name: str = "accuracy") -> FloatArray:
    """Check accuracies in [0, 1], and undo the rounding of a narrower type where the values are VQA accuracies.

    A float32 0.9 is 2.4e-8 away from nine tenths, which is enough to miss a risk tolerance of exactly 0.1.

    Args:
        values: Shape `(N,)`.
        name: What the values are called in errors.

    Returns:
        Shape `(N,)`, float64.

    Raises:
        ReliabitError: A value is NaN or outside [0, 1].

    >>> as_accuracy(np.float32([0.9, 0.3])).tolist()
    [0.9, 0.3]
    """
    vector, precision = _as_vector(values, name)
    _reject(~((vector >= 0) & (vector <= 1)), vector, name, "every accuracy must lie in [0, 1]")
    if precision > np.finfo(np.float64).eps:
        for unit in UNITS:
            # Beyond a tenth of a unit, rounding would invent structure instead of restoring it.
            if unit * precision <= 0.1 and _is_whole(vector * unit, slack=unit * precision):
                return np.rint(vector * unit) / unit
    return vector


def as_pair(
    confidence: VectorLike, accuracy: VectorLike, *, probability: bool = False, prefix: str = ""
) -> tuple[FloatArray, FloatArray]:
    """Check a confidence and an accuracy a prediction, both of shape `(N,)`; see `as_confidence` and `as_accuracy`.

    The prefix, such as `cal_`, precedes the two names in errors.
    """
    ranked = as_confidence(confidence, name=f"{prefix}confidence", probability=probability)
    scored = as_accuracy(accuracy, name=f"{prefix}accuracy")
    _same_length(ranked, scored, names=(f"{prefix}confidence", f"{prefix}accuracy"))
    return ranked, scored


def _same_length(first: npt.NDArray[Any], second: npt.NDArray[Any], *, names: tuple[str, str]) -> None:
    """Refuse vectors of different lengths, naming the first index that only one of them has."""
    if len(first) != len(second):
        index = min(len(first), len(second))
        raise ReliabitError(
            f"{names[0]} has {len(first)} values and {names[1]} has {len(second)}; they part at index {index}"
        )


def as_scalar(value: float | Fraction, name: str, *, allowed: Callable[[float], bool], rule: str) -> float:
    """Check one number against a rule such as "must lie in [0, 1]"."""
    number = float(value)
    if not allowed(number):
        raise ReliabitError(f"{name} is {number:g}; it {rule}")
    return number


def as_risk(risk: float | Fraction, *, name: str = "risk") -> Fraction:
    """Check a risk tolerance in [0, 1] and read it as the decimal that was written.

    The float 0.3 is a little less than three tenths; whoever writes 0.3 means three tenths.

    >>> as_risk(0.3)
    Fraction(3, 10)
    """
    as_scalar(risk, name, allowed=lambda value: 0 <= value <= 1, rule="must lie in [0, 1]")
    return as_decimal(risk)


def as_cost(cost: float | Fraction) -> Fraction:
    """Check a cost of a wrong answer, a finite number from 0, and read it as the decimal that was written."""
    as_scalar(cost, "cost", allowed=lambda value: 0 <= value < np.inf, rule="must be a finite number from 0")
    return as_decimal(cost)


def as_decimal(number: float | Fraction) -> Fraction:
    """Read a number as the decimal that was written."""
    return number if isinstance(number, Fraction) else Fraction(str(float(number)))


def loss_units(accuracy: FloatArray) -> tuple[IntArray | FloatArray, int]:
    """Express 1 - accuracy in the coarsest unit that makes every loss whole, so that sums are exact.

    Args:
        accuracy: Shape `(N,)` in [0, 1].

    Returns:
        The losses and how many units make 1: int64 losses where a unit fits, else float64 losses and the unit 1.

    >>> loss_units(np.array([0.9, 0.3, 1.0]))
    (array([1, 7, 0]), 10)
    """
    for unit in UNITS:
        scaled = accuracy * unit
        if _is_whole(scaled, slack=unit * _DOUBLE_SLACK):
            return unit - np.rint(scaled).astype(np.int64), unit
    return 1.0 - accuracy, 1


def _is_whole(values: FloatArray, *, slack: float) -> bool:
    # The first values settle most cases; a whole pass over a million is then not needed.
    head = values[:64]
    return bool((np.abs(head - np.rint(head)) <= slack).all() and (np.abs(values - np.rint(values)) <= slack).all())
