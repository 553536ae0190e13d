"""What fields of a configuration may hold, beyond their type."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def choice(*options: object, default: Any = MISSING) -> Any:
    """A field that holds one of some options, or a list of some of them, checked by `validate`."""
    return field(default=default, metadata={"choices": options})


def positive(*, default: Any = MISSING) -> Any:
    """A field that holds a number above zero, checked by `validate`."""
    return field(default=default, metadata={"positive": True})
