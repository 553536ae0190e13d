"""How docstrings are read for the reference: examples stand at their end, with or without a heading."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?:Examples?:\n)?(?= *>>> )", re.MULTILINE)


class RunnableExamples(griffe.Extension):
    """Shows what tests run as code, whether or not a docstring calls it an example."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put a heading before the examples of a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(text: str) -> str:
    r"""A docstring whose examples make a section that the parser knows.

    >>> with_heading("Adds.\n\n>>> 1 + 1\n2")
    'Adds.\n\nExamples:\n    >>> 1 + 1\n    2'
    """
    found = _EXAMPLE.search(text)
    if found is None:
        return text
    lines = text[found.end() :].splitlines()
    if found[0] and lines[0].startswith(" "):
        return text[: found.start()] + "Examples:\n" + text[found.end() :]
    shifted = "\n".join(f"    {line}" if line else line for line in lines)
    return f"{text[: found.start()]}Examples:\n{shifted}"
