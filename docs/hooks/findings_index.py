"""The page of what surprised us in other libraries, made of the heads of the scripts that show it."""

import re
from pathlib import Path

_HEAD = """\
# Findings in other libraries

Behaviour of libraries that we would have guessed wrong, each shown by a script of `findings/` that makes an environment
of its own, installs the versions named there and ends with status 0 as long as the behaviour is as described:
`bash findings/dvc_param_types.sh`. What was found about *models* is in [What was measured](../results.md).
"""

_INSTALLED = re.compile(r"([A-Za-z][\w.-]*(?:\[[\w,]+\])?)==([\w.]+)")


def page(project: Path) -> str:
    """The page in Markdown.

    Args:
        project: The folder of the repository.
    """
    parts = [_HEAD]
    for script in sorted((project / "findings").glob("*.sh")):
        lines = script.read_text(encoding="utf-8").splitlines()
        title = script.stem.replace("_", " ")
        parts += [f"## {title}", "", f"{described(lines)}", "", f"`findings/{script.name}`, with {versions(lines)}", ""]
    return "\n".join(parts)


def described(lines: list[str]) -> str:
    """The comment at the head of a script, after the line that names the shell.

    >>> described(["#!/bin/sh", "# One.", "# Two.", "true", "# not this"])
    'One. Two.'
    """
    found = []
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        found.append(line.lstrip("# "))
    return " ".join(found)


def versions(lines: list[str]) -> str:
    """The packages that a script installs, with their versions."""
    named = dict(pair for line in lines if "install" in line or "==" in line for pair in _INSTALLED.findall(line))
    return ", ".join(f"{name} {version}" for name, version in named.items()) or "what is installed"
