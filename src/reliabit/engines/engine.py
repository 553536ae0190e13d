"""What an engine is to those who ask it: a model that says what it is, and completes chats."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Completion:
    """A response.

    Attributes:
        response: The body, as JSON gives it.
        seconds: From the request's first sending to the response's last byte; of a batch, its share.
    """

    response: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class ServedModel:
    """What an engine says of the model that it serves.

    Attributes:
        name: What requests call it.
        facts: Everything else that it says of it, but when it says it.
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Completes chats with one model; to be used from one thread."""

    def served_model(self) -> ServedModel:
        """The model that it serves.

        Raises:
            ReliabitError: There is no engine, or it serves no such model.
        """

    def complete_all(
        self,
        bodies: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Iterator[Completion]:
        """The responses to requests, in their order; see `reliabit.engines.chat.chat_request`.

        Args:
            bodies: Of the requests.
            timeout: Seconds to wait for each, other than the configured ones.

        Raises:
            ReliabitError: A request was refused, or failed as often as it may.
        """
