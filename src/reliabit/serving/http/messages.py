"""What travels between a client and the service, shared with the MLflow model: questions, answers and refusals."""

import base64
import binascii
import string
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator
from starlette.responses import JSONResponse

from reliabit.serving.bundle.image_questions import ImageQuestion

if TYPE_CHECKING:
    from reliabit.serving.bundle.served_model import ServedAnswer

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

    def asked(self) -> ImageQuestion:
        """The question as the model takes it."""
        return ImageQuestion(image=self.image, question=self.question, risk=self.risk)


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
    def of(cls, answer: "ServedAnswer") -> "Response":
        """What a client is told of an answer."""
        told = None if answer.abstained else answer.answer
        return cls(**(asdict(answer) | {"answer": told, "confidence": min(1.0, max(0.0, answer.confidence))}))


class Responses(BaseModel):
    """The answers to several questions, in order."""

    answers: list[Response]


class RefusalError(Exception):
    """A request that is turned away.

    Attributes:
        status: Of HTTP, 4xx or 503 or 504.
        reason: One sentence for the client; nothing of what it sent is in it but names of fields.
        retry_after: Seconds after which trying again may help.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @classmethod
    def busy(cls, reason: str, *, retry_after: int = 1) -> "RefusalError":
        """For want of room, which there may be so many seconds later."""
        return cls(503, f"{reason}; try again in {retry_after} s", retry_after=retry_after)

    def response(self) -> JSONResponse:
        """What the client is told."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"detail": self.reason}, status_code=self.status, headers=headers)
