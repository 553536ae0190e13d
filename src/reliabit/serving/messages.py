"""What travels between a client and the service: pydantic models, shared with the MLflow model."""

import base64
import binascii
import string
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from reliabit.serving.questions import Asked
from reliabit.serving.served_model import Answered

WHITESPACE = string.whitespace.encode()

IMAGE_SCHEMA = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "A PNG, JPEG or WebP file in base64.",
}


class Request(BaseModel):
    """One question about one image.

    Example:
        >>> Request.model_validate({"image": "aGVsbG8=", "question": "what is it?"}).image
        b'hello'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Annotated[bytes, WithJsonSchema(IMAGE_SCHEMA)]
    question: str = Field(min_length=1, description="As it is put to the model; its template is added.")
    risk: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        strict=True,
        description="The share of wrong answers among those given that is guaranteed; one of the certified ones.",
    )

    @field_validator("image", mode="before")
    @classmethod
    def decode(cls, value: Any) -> Any:
        """Text is base64, in which line ends may stand; bytes are taken as they are."""
        if not isinstance(value, str):
            return value
        try:
            # Without a string for each of the pieces between them, of which there may be millions.
            return base64.b64decode(value.encode("ascii").translate(None, delete=WHITESPACE), validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise ValueError("this is no base64; encode the image file, without a data: prefix") from error

    def asked(self) -> Asked:
        """The question as the model takes it."""
        return Asked(image=self.image, question=self.question, risk=self.risk)


class Requests(BaseModel):
    """Several questions, answered or refused together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: list[Request] = Field(min_length=1)


class Response(BaseModel):
    """An answer, or the reason why there is none: its confidence is below the certified threshold."""

    # `model_version` is a field like any other.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    answer: str | None = Field(
        default=None, description="Null where the model abstained: a withheld answer is not sent."
    )
    confidence: float = Field(ge=0, le=1)
    abstained: bool
    threshold: float | None = Field(
        default=None, description="Null where nothing is certified: every answer is withheld."
    )
    risk: float = Field(description="Of the answers that are given, at most this share is wrong,")
    delta: float = Field(description="but for an event whose probability is at most this.")
    certificate_id: str
    model_version: str
    run_id: str

    @classmethod
    def of(cls, answered: Answered, *, version: str) -> "Response":
        """What a client is told.

        Args:
            answered: The answer.
            version: Of the model that gave it.
        """
        return cls(
            answer=None if answered.abstained else answered.answer,
            confidence=min(1.0, max(0.0, answered.confidence)),
            abstained=answered.abstained,
            threshold=answered.threshold,
            risk=answered.risk,
            delta=answered.delta,
            certificate_id=answered.certificate_id,
            model_version=version,
            run_id=answered.run_id,
        )


class Responses(BaseModel):
    """The answers to several questions, in order."""

    answers: list[Response]
