"""What a record of a journal may hold: a line that a writer left is one of these, and nothing else is."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

JOURNAL_VERSION = 1
RUNNING = "RUNNING"
STATES = (RUNNING, "FINISHED", "FAILED", "KILLED")

LAST_MOMENT = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since 1970."""

INTEGERS = range(-(2**63), 2**63)
"""What a database takes for an integer."""


def fault_of(record: Any, *, first: bool) -> str | None:
    """What is wrong with a record, in words; `None` where nothing is.

    Args:
        record: What a line says.
        first: Whether it is the first of its run.

    >>> fault_of({"tags": {"bits": 4}}, first=False), fault_of({"tags": {"bits": "4"}}, first=False)
    ('its tags cannot be read', None)
    """
    if not isinstance(record, dict):
        return "it is no record"
    if first and _is_integer(record.get("version")) and record["version"] != JOURNAL_VERSION:
        # What else it holds is for that version to say.
        return None
    lacking = [key for key in (FIRST if first else ()) if key not in record]
    lacking += ["at"] if "status" in record and "at" not in record else []
    if lacking:
        return f"it lacks {' and '.join(lacking)}"
    unknown = [key for key in record if key not in FIELDS]
    if unknown:
        return f"it holds {unknown[0][:40]!a}, which no journal has"
    wrong = [key for key, value in record.items() if not FIELDS[key](value)]
    return f"its {wrong[0]} cannot be read" if wrong else None


def _is_text(value: Any) -> bool:
    r"""Whether a value is a text that every store takes: without NUL and without halves of characters.

    >>> _is_text("ä"), _is_text("\x00"), _is_text("\ud800"), _is_text(3)
    (True, False, False, False)
    """
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_integer(value: Any) -> bool:
    """Whether a value is an integer that every store takes; a truth value is none.

    >>> _is_integer(7), _is_integer(True), _is_integer(2**63)
    (True, False, False)
    """
    return type(value) is int and value in INTEGERS


def _is_moment(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= LAST_MOMENT


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(key) and _is_text(one) for key, one in value.items())


def _is_metric(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    name, number, at, step = value
    # Those that JSON has no number for are written as texts.
    written = number in ("nan", "inf", "-inf") if isinstance(number, str) else _is_number(number)
    return _is_text(name) and written and _is_moment(at) and _is_integer(step)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (type(value) is float and math.isfinite(value))


def _is_dataset(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_mapping(value.get("tags")):
        return False
    others = {key: one for key, one in value.items() if key != "tags"}
    needed, optional = ("name", "digest", "source_type", "source"), ("schema", "profile")
    return (
        others.keys() <= {*needed, *optional}
        and all(_is_text(others.get(key)) for key in needed)
        and all(others.get(key) is None or _is_text(others[key]) for key in optional)
    )


def _each(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(one) for one in value)


def storable(value: Any) -> Any:
    r"""A record as every store takes it: what a text may not hold, such as the bytes of a file's name, is replaced.

    >>> storable({"tags": {"failure.reason": "no file \udcff"}})
    {'tags': {'failure.reason': 'no file ?'}}
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {storable(key): storable(one) for key, one in value.items()}
    return [storable(one) for one in value] if isinstance(value, list | tuple) else value


FIRST = ("version", "at", "opened", "name")
"""What the first record of a run holds at least."""

FIELDS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "version": _is_integer,
        "at": _is_moment,
        "opened": _is_integer,
        "name": _is_text,
        "status": lambda value: isinstance(value, str) and value in STATES,
        "deleted": lambda value: type(value) is bool,
        "tags": _is_mapping,
        "parameters": _is_mapping,
        "metrics": _each(_is_metric),
        "datasets": _each(_is_dataset),
        "artifacts": _each(_is_text),
        "sha256": _is_mapping,
    }
)
"""What a record may hold, and what each must be."""
