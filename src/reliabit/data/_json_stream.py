"""JSON files larger than memory: the items of one array of a file, one at a time.

The official files of VQAv2 are single JSON documents of some 100 MB that hold one array; read whole, the annotations
take gigabytes as Python objects.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from reliabit.errors import ReliabitError

CHUNK = 1 << 18
"""Characters read at once."""

LONGEST_ITEM = 1 << 24
"""No item of a question file is longer; a file that seems to have one is broken, and is not read to its end."""


def stream_items(file: Path, *, key: str | None) -> Iterator[Any]:
    """The items of an array, in order, with no more of the file in memory than one of them.

    Args:
        file: The JSON file.
        key: The key of the top-level object that holds the array, or `None` where the file is an array itself.

    Raises:
        ReliabitError: The file is missing, is no JSON, or has no such array.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "questions.json")
        ...     _ = file.write_text('{"info": {"version": "2.0"}, "questions": [{"id": 1}, {"id": 2}]}')
        ...     list(stream_items(file, key="questions"))
        [{'id': 1}, {'id': 2}]
    """
    try:
        with file.open(encoding="utf-8-sig") as text:
            reader = _Reader(text)
            yield from reader.items() if key is None else _items_under(reader, key)
    except OSError as error:
        raise ReliabitError(f"{file} cannot be read ({error.strerror}); put it there, or correct data.files") from error
    except (ValueError, RecursionError, _LayoutError) as error:
        reason = "its values are nested too deeply" if isinstance(error, RecursionError) else _one_line(error)
        raise ReliabitError(f"{file} is not in the expected layout ({reason}); download it again") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _LayoutError(Exception):
    """What a file lacks."""


def _items_under(reader: "_Reader", key: str) -> Iterator[Any]:
    """The items under one key of the object at hand; what lies under other keys is passed over."""
    reader.expect("{")
    while reader.peek() != "}":
        name = reader.value()
        reader.expect(":")
        if name == key:
            yield from reader.items()
            return
        if reader.peek() == "[":
            for _ in reader.items():
                pass
        else:
            reader.value()
        if reader.peek() == ",":
            reader.expect(",")
    raise _LayoutError(f"it has no key {key!r}")


def _may_go_on(text: str, end: int) -> bool:
    return end == len(text) or text[end] in ".eE+-0123456789"


class _Reader:
    """A window on a JSON text that moves on as values are taken from it."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._start = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._start < len(self._buffer):
                if not self._buffer[self._start].isspace():
                    return self._buffer[self._start]
                self._start += 1
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        """Step over a character that must come next."""
        found = self.peek()
        if found != character:
            raise _LayoutError(f"{character!r} was expected and {found!r} came")
        self._start += 1

    def value(self) -> Any:
        """Take one value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._start)
            except json.JSONDecodeError:
                if len(self._buffer) - self._start > LONGEST_ITEM or not self._more():
                    raise
                continue
            # A number at the edge of the window may go on beyond it: of 0.5 the window may hold no more than 0.
            if isinstance(value, int | float) and _may_go_on(self._buffer, end) and self._more():
                continue
            self._start = end
            return value

    def items(self) -> Iterator[Any]:
        """Take the items of an array."""
        self.expect("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.expect(",")
        self.expect("]")

    def _more(self) -> bool:
        if self._ended:
            return False
        read = self._text.read(max(CHUNK, len(self._buffer) - self._start))
        self._ended = not read
        self._buffer = self._buffer[self._start :] + read
        self._start = 0
        return bool(read)
