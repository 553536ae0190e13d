"""The page of the command line, made of what its parser says of itself."""

import argparse
import os
from pathlib import Path

from reliabit.cli import parser

_HEAD = """\
# Command line

`reliabit <command> --help` prints the same. Tasks and sweeps are run by `python src/run.py` in a clone and by
`reliabit run` of an installed package, with the same overrides: [Commands](../use.md#commands) and
[Settings](settings.md).
"""


def page(_: Path) -> str:
    """The page in Markdown: every command with its options."""
    parts = [_HEAD]
    for name, one in sorted(commands().items()):
        if name != "run":
            parts += [f"## reliabit {name}", "", "```text", _help(one), "```", ""]
    return "\n".join(parts)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command."""
    groups = [one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(groups[0].choices)


def _help(one: argparse.ArgumentParser) -> str:
    width, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "88"
    try:
        return one.format_help().rstrip()
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
