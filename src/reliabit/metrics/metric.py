"""What a metric is: its name, how it is shown, which way is better, and how it is computed; and all that are known.

Whatever shows, records or judges a metric takes that from the metric itself, which is defined once, in
`reliabit.metrics.definitions` or in a module of somebody's own that is imported.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import groupby
from typing import Any, Literal, TypeAlias, TypeVar

from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, as_decimal, as_scalar

Parameter: TypeAlias = Literal["risk", "coverage", "cost", "n_bins", "sure"]
_LIMITS: dict[Parameter, tuple[Callable[[float], bool], str]] = {
    "risk": (lambda value: 0 <= value <= 1, "must lie in [0, 1]"),
    "coverage": (lambda value: 0 < value <= 1, "must lie in (0, 1]"),
    "cost": (lambda value: 0 <= value < float("inf"), "must be a finite number from 0"),
    "n_bins": (lambda value: value >= 1, "must be at least 1"),
    "sure": (lambda value: 0 <= value < 1, "must lie in [0, 1)"),
}

_SHARES: tuple[Parameter, ...] = ("risk", "coverage", "sure")
"""Parameters that names spell in per cent."""

Parts: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Metric:
    """One metric of confidences and accuracies.

    Attributes:
        name: Under which runs record it; what is before the slash says what kind of metric it is.
        heading: Of a column of a table.
        formula: Computes it from tie groups, and from a threshold if it has a `cost`; of shape `()`, or `(B,)` for
            resamples, which are weights of the groups. `None` for what is not computed from predictions alone.
        higher_is_better: Which way is better.
        phrase: What sentences call it; its heading by default.
        unit: `%` for fractions, which are shown in per cent; else what its numbers count.
        probability: Whether it needs confidences in [0, 1].
        cost: The cost of a wrong answer at which another split chooses its threshold.
        parts: What each prediction contributes where it is a mean, of confidences and accuracies of shape `(N,)`: then
            there is an interval that holds for few images too (`reliabit.metrics.cluster_mean`).
        headline: Whether reports show it for every confidence on every set of questions.
        ends_recorded: Whether runs record the ends of its interval, as `<name>.low` and `<name>.high`.
        member_of: The template of its family and its number in it, which names spell with six digits only.
    """

    name: str
    heading: str
    formula: Callable[..., FloatArray] | None = None
    higher_is_better: bool = False
    phrase: str = ""
    unit: str = "%"
    probability: bool = False
    cost: float | None = None
    parts: Parts | None = None
    headline: bool = False
    ends_recorded: bool = False
    member_of: tuple[str, float | Fraction] | None = None

    @property
    def parameter(self) -> None:
        """It depends on no number; a `Family` does."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied and pickled by what it is called by: a copy is the metric itself.
        return (_member_of, self.member_of) if self.member_of else (metric_named, (self.name,))

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrase", self.phrase or self.heading)

    @property
    def certified(self) -> bool:
        """Whether it is what a certificate promises, which depends on among how many the best is picked."""
        return self.name.startswith("certified/")

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def axis(self) -> str:
        """The label of an axis, such as `AURC, %`."""
        return f"{self.heading}, {self.unit}"

    def text(self, value: float) -> str:
        """A value as tables show it.

        >>> Metric(name="selective/example", heading="example").text(0.0123)
        '1.23'
        """
        return f"{self.scale * value:.2f}"


@dataclass(frozen=True, eq=False)
class Family:
    """Metrics that differ in one number; called with it, gives the metric, and the same object for the same number.

    Attributes:
        template: The names, with a pair of braces for the number.
        parameter: What the number is.
        define: Name and number to metric.
    """

    template: str
    parameter: Parameter
    define: Callable[[str, Any], Metric]

    def __call__(self, value: float | Fraction) -> Metric:
        allowed, rule = _LIMITS[self.parameter]
        as_scalar(value, self.parameter, allowed=allowed, rule=rule)
        return _member(self, value)

    def find(self, name: str) -> Metric | None:
        """The metric of a name, if it is one of these."""
        before, after = self.template.split("{}")
        found = re.fullmatch(rf"{before}([0-9_]+){after}", name)
        return self(_value(self.parameter, found[1])) if found else None


Defined = TypeVar("Defined", Metric, Family)

_DEFINED: list[Metric | Family] = []


def register(defined: Defined) -> Defined:
    """Make a metric, or a family of them, one of those that are computed, recorded and found by name.

    Raises:
        ReliabitError: Its name is taken.
    """
    names = [known.name if isinstance(known, Metric) else known.template for known in _DEFINED]
    name = defined.name if isinstance(defined, Metric) else defined.template
    if name in names:
        raise ReliabitError(f"there are two metrics called {name}; rename one of them")
    _DEFINED.append(defined)
    return defined


def family(template: str, parameter: Parameter) -> Callable[[Callable[[str, Any], Metric]], Family]:
    """Register what defines a metric for each value of a parameter."""
    return lambda define: register(Family(template, parameter, define))


def defined_metrics(**values: tuple[float, ...]) -> Iterator[Metric]:
    """Every metric, in the order of definition.

    Args:
        **values: For each `Parameter`, the values at which families are wanted; none where one is not given.
    """
    for parameter, entries in groupby(_DEFINED, key=lambda entry: entry.parameter):
        members = list(entries)
        # Families of one parameter that follow each other are given value by value.
        for value in values.get(parameter, ()) if parameter else (0.0,):
            yield from (entry if isinstance(entry, Metric) else entry(value) for entry in members)


def find_metric(name: str) -> Metric | None:
    """The metric that a run records under a name; with a suffix too, such as that of a confidence.

    >>> find_metric("selective/aurc.selector").heading, find_metric("selective/coverage_at_2_5pct_risk").heading
    ('AURC', 'C@2.5%')
    """
    stem = name.partition(".")[0]
    for entry in _DEFINED:
        found = (entry if entry.name == stem else None) if isinstance(entry, Metric) else entry.find(stem)
        if found:
            return found
    return None


def metric_named(name: str) -> Metric:
    """See `find_metric`.

    Raises:
        ReliabitError: There is no such metric.
    """
    found = find_metric(name)
    if found is None:
        raise ReliabitError(f"there is no metric {name!r}; see docs/metrics.md for those there are")
    return found


def higher_is_better(name: str) -> bool:
    """Whether larger values of a metric are better; of costs, which are no metrics of answers, smaller ones are.

    >>> higher_is_better("selective/prr"), higher_is_better("calibration/ece_15")
    (True, False)
    """
    found = find_metric(name)
    return found is not None and found.higher_is_better


@cache
def _member(family: Family, value: float | Fraction) -> Metric:
    defined = family.define(family.template.format(_spelled(family.parameter, value)), value)
    return replace(defined, member_of=(family.template, value))


def _member_of(template: str, value: float | Fraction) -> Metric:
    return next(one for one in _DEFINED if isinstance(one, Family) and one.template == template)(value)


def _spelled(parameter: Parameter, value: float | Fraction) -> str:
    """A number as names hold it: shares in per cent, and no points."""
    number = float(100 * as_decimal(value)) if parameter in _SHARES else float(value)
    return f"{number:g}".replace(".", "_")


def _value(parameter: Parameter, spelled: str) -> float:
    number = float(spelled.replace("_", "."))
    if parameter == "n_bins":
        return int(number)
    return float(as_decimal(number) / 100) if parameter in _SHARES else number
