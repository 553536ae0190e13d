"""The blocks of the pages: fenced ones with their language, indented ones, and the commands of those for a shell."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from launching import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?P<text>(?: {4}.*\n|\n(?= {4}))+)")
_ENTRY = re.compile(r" *(?:[-*]|\d+\.) ")
_WRITTEN = re.compile(r"<<'(\w+)'\n.*?^\1$", re.MULTILINE | re.DOTALL)
_ASSIGNED = re.compile(r"\w+=")
_TO_FILL_IN = re.compile(r"<[a-z][^<>\n]*>")


@dataclass(frozen=True)
class Block:
    """A block of a page, as it is copied; `language` is empty where it is indented."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """How a test is called by it."""
        return f"{Path(self.page).stem}:{self.line}"

    @property
    def filled_in(self) -> str:
        """Its text with something for what the reader fills in, such as `<host>`."""
        return _TO_FILL_IN.sub("0", self.text)

    @property
    def first(self) -> str:
        """Its first word."""
        return self.text.split(maxsplit=1)[0]


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), match["language"] or "text", match["text"]) for match in _FENCED.finditer(text)]
    # What is fenced is no prose; it keeps its length, so that places stay.
    rest = _FENCED.sub(lambda match: re.sub(r"[^\n]", "-", match[0]), text)
    for match in _INDENTED.finditer(rest):
        # What follows an entry of a list belongs to it.
        if not _ENTRY.match(text[: match.start()].rstrip().rsplit("\n\n", 1)[-1]):
            found.append((match.start(), "", match["text"]))
    name = page.relative_to(PROJECT).as_posix()
    return [
        Block(name, text.count("\n", 0, place) + 1, language, textwrap.dedent(code).rstrip() + "\n")
        for place, language, code in sorted(found)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """The words of every command of a block for a shell, without what it assigns, comments, and texts for files."""
    found = []
    for line in _WRITTEN.sub("", block.filled_in).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split = True
        for joins, words in groupby(lexer, key=lambda word: not word.strip(";|&")):
            command = list(words)
            while command and _ASSIGNED.match(command[0]):
                # What another command gives is no word of this one.
                command = [] if "$(" in command[0] else command[1:]
            if command and not joins:
                found.append(command)
    return found
