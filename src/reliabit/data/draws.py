"""Severities and reproducible draws, which all distribution shifts share.

A draw depends on its key alone: not on the process, on the order of the items or on what else is drawn.
"""

import hashlib
import json

import numpy as np

from reliabit.errors import ReliabitError

SEVERITIES = (1, 2, 3, 4, 5)
"""The severities of a shift that has them, mildest first."""


def check_severity(severity: int, *, of: str) -> None:
    """Refuse a severity that does not exist.

    Args:
        severity: What was asked for.
        of: The shift, for the message.

    Raises:
        ReliabitError: The severity is not one of `SEVERITIES`.
    """
    if severity not in SEVERITIES:
        raise ReliabitError(f"{of} has no severity {severity}; choose one of {', '.join(map(str, SEVERITIES))}")


def stable_hash(*key: str | int) -> int:
    """Hash a key to 128 bits, the same in every process (Python's own `hash` of a text is not).

    >>> stable_hash("a", 1) == stable_hash("a", 1), stable_hash("a", 1) == stable_hash("a", "1")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:16], "big")


def stable_generator(*key: str | int) -> np.random.Generator:
    """A random generator whose stream the key decides.

    >>> stable_generator("noise", 0).random() == stable_generator("noise", 0).random()
    True
    """
    return np.random.default_rng(stable_hash(*key))
