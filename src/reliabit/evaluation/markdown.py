"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table with one line a row.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "".join("| " + " | ".join(line) + " |\n" for line in (headings, ["---"] * len(headings), *lines))
