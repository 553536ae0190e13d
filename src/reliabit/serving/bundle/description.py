"""What a bundle says of itself: which model it holds, how it is asked, and what is certified of its answers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Literal, get_args

from reliabit.errors import ReliabitError
from reliabit.metrics.certify import Certificate

FORMAT = 1
Confidence = Literal["maxprob", "selector"]


def certificate_id(certificate: Certificate) -> str:
    """The name of a certificate: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.

    >>> from dataclasses import replace
    >>> one = Certificate(
    ...     risk=0.05, delta=0.1, threshold=0.7, method="binomial", n_cal=9, n_accepted=8, loss_sum=0.0,
    ...     p_value=0.01, bound=0.04, seed=0, cal_sha256="",
    ... )
    >>> len(certificate_id(one)), certificate_id(one) == certificate_id(replace(one, threshold=0.6))
    (16, False)
    """
    canonical = json.dumps(certificate.to_dict(), sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is needed to serve a checkpoint exactly as it was evaluated, and where its numbers are from.

    Attributes:
        name: Such as `qwen2_vl_tiny·hqq·4b·s0`.
        family: The adapter that fits the checkpoint.
        dtype: torch's name of the precision to compute in.
        template: The prompt around a question.
        max_new_tokens: Where an answer is cut off.
        batch_size: Questions that are answered together at most.
        confidence: What says how sure an answer is.
        certificates: Thresholds on that confidence, one a risk.
        default_risk: The risk of a request that names none; one of the certificates'.
        run_id: The run that evaluated it.
        fingerprint: The identity of that run.
        inputs: Digests of the data that it was evaluated on, by name.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.
        features_layer: The decoder layer that a Selector reads; `None` for the final norm.
        features_dtype: The type that its states were stored in when it was trained.
        reliabit: The version that wrote the bundle.
        created: When, ISO 8601 in UTC.
        format: The version of the bundle's layout.

    """

    name: str
    family: str
    dtype: str
    template: str
    max_new_tokens: int
    batch_size: int
    confidence: Confidence
    certificates: tuple[Certificate, ...]
    default_risk: float
    run_id: str
    fingerprint: str
    inputs: Mapping[str, str]
    max_pixels: int | None = None
    features_layer: int | None = None
    features_dtype: str = "float16"
    reliabit: str = field(default_factory=lambda: version("reliabit"))
    created: str = field(default_factory=_now)
    format: int = FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificates", tuple(self.certificates))
        risks = self.risks
        if self.confidence not in get_args(Confidence):
            known = " or ".join(get_args(Confidence))
            raise ReliabitError(f"the bundle's confidence is {self.confidence!r}, and only {known} can be served")
        if len(set(risks)) != len(risks):
            raise ReliabitError(f"the bundle has two certificates of one risk ({_list(risks)}); keep one of each")
        if self.default_risk not in risks:
            raise ReliabitError(
                f"the bundle's default risk {self.default_risk:g} is not certified; choose one of {_list(risks)}"
            )
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ReliabitError(f"the bundle's {name} is {getattr(self, name)}; it must be at least 1")

    @property
    def risks(self) -> list[float]:
        """The risks a request may name, in the certificates' order."""
        return [certificate.risk for certificate in self.certificates]

    def certificate(self, risk: float | None) -> Certificate:
        """The certificate of a risk, that of the default risk where it is `None`.

        Raises:
            ReliabitError: No threshold is certified for it.
        """
        wanted = self.default_risk if risk is None else risk
        for certificate in self.certificates:
            if certificate.risk == wanted:
                return certificate
        raise ReliabitError(f"no threshold is certified for risk={wanted:g}; choose one of {_list(self.risks)}")

    def to_json(self) -> str:
        """The description as the text of `bundle.json`."""
        certificates = [found.to_dict() | {"id": certificate_id(found)} for found in self.certificates]
        values = asdict(self) | {"inputs": dict(self.inputs), "certificates": certificates}
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """Read what `to_json` wrote.

        Raises:
            ReliabitError: It is no description, is of a newer format, or a certificate does not bear its own id.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format"] != FORMAT:
                raise ReliabitError(
                    f"the bundle is in format {values['format']!r}, and this version of reliabit reads {FORMAT}; "
                    "use the version that wrote it"
                )
            certificates = tuple(_certificate(record) for record in values["certificates"])
            known = {one.name for one in fields(cls)}
            # Bundles from before images could be limited do not say that theirs were not.
            if not known - {"max_pixels"} <= set(values) <= known:
                raise ValueError(f"its fields are not those of format {FORMAT}")
            return cls(**{**values, "certificates": certificates})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReliabitError(f"the bundle's description cannot be read ({error}); pull the bundle again") from error


def _certificate(record: dict[str, Any]) -> Certificate:
    certificate = Certificate.from_dict({name: value for name, value in record.items() if name != "id"})
    if certificate_id(certificate) != record["id"]:
        raise ValueError(f"the certificate {record['id']} was changed")
    return certificate


def _list(risks: list[float]) -> str:
    return ", ".join(f"{risk:g}" for risk in risks) or "none at all"
