"""At what terms a version answers: what abstains, and which risks are certified how surely."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reliabit.errors import ReliabitError
from reliabit.evaluation.settings import ParetoSettings
from reliabit.serving.bundle.description import Description

TAG = "terms"
"""The tag of a version that holds its terms; a damaged bundle leaves it as it is."""


@dataclass(frozen=True)
class Terms:
    """What a version promises, whatever its weights are.

    Attributes:
        confidence: What abstains: `maxprob` or `selector`.
        default_risk: The certified risk of a request that names none.
        deltas: Certified risk to the probability with which its certificate may fail.
    """

    confidence: str
    default_risk: float
    deltas: Mapping[float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "deltas", MappingProxyType(dict(sorted(self.deltas.items()))))

    def weaker_than(self, other: "Terms") -> list[float]:
        """The risks that other terms certify, and these do not, or less surely.

        >>> mild, strict = Terms("maxprob", 0.1, {0.1: 0.1}), Terms("maxprob", 0.1, {0.05: 0.1, 0.1: 0.05})
        >>> mild.weaker_than(strict), strict.weaker_than(mild)
        ([0.05, 0.1], [])
        """
        return [risk for risk, delta in other.deltas.items() if not self.deltas.get(risk, 1.0) <= delta]

    def __str__(self) -> str:
        """In words.

        >>> print(Terms("selector", 0.05, {0.05: 0.1, 0.01: 0.1}))
        selector, risks 1 % (delta 0.1), 5 % (delta 0.1), 5 % by default
        """
        risks = ", ".join(f"{100 * risk:g} % (delta {delta:g})" for risk, delta in self.deltas.items())
        return f"{self.confidence}, risks {risks}, {100 * self.default_risk:g} % by default"

    def to_tags(self) -> dict[str, str]:
        """The terms as a tag of a version; `from_tag` reads it.

        >>> terms = Terms("maxprob", 0.05, {0.05: 0.1})
        >>> Terms.from_tag(terms.to_tags()[TAG]) == terms
        True
        """
        values = {
            "confidence": self.confidence,
            "default_risk": self.default_risk,
            "certified": [[risk, delta] for risk, delta in self.deltas.items()],
        }
        return {TAG: json.dumps(values)}

    @classmethod
    def from_tag(cls, text: str) -> "Terms":
        """Read the tag of a version.

        Raises:
            ReliabitError: It was changed to something else.
        """
        try:
            values = json.loads(text)
            deltas = {float(risk): float(delta) for risk, delta in values["certified"]}
            return cls(str(values["confidence"]), float(values["default_risk"]), deltas)
        except (ValueError, KeyError, TypeError) as error:
            raise ReliabitError(
                f"the tag {TAG} of the live version holds no terms ({error}); delete that tag"
            ) from error


def terms_of_settings(settings: ParetoSettings) -> Terms:
    """The terms that a policy's candidate would go live at."""
    return Terms(settings.confidence, settings.required_risk, dict.fromkeys(settings.certified_risks, settings.delta))


def terms_of_bundle(description: Description) -> Terms:
    """The terms of a bundle."""
    deltas = {certificate.risk: certificate.delta for certificate in description.certificates}
    return Terms(description.confidence, description.default_risk, deltas)
