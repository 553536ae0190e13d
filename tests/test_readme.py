"""The way in: short, with a result and the first targets; what pages link exists. Commands: `tests/docs`."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from launching import PROJECT

README = PROJECT / "README.md"
LINK = re.compile(r"""(?:\]\(|<img src=")([^)#"]+)(?:#[\w-]+)?[)"]""")


def commands_in(page: Path, beginning: str) -> list[list[str]]:
    """The words after a beginning, of each line of code that has it; without what a shell does with them."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{beginning} ")]
    return [words[len(beginning.split()) :] for words in found]


def test_the_way_in_is_short_and_shows_a_result():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert '<img src="docs/images/' in text
    assert text.index("    make quick") < text.index("    make run")


@pytest.mark.parametrize("page", [README, *sorted((PROJECT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_every_file_that_is_linked_is_there(page):
    named = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in named if not (page.parent / link).exists()] == []


def test_every_target_that_is_named_is_one_of_the_makefile():
    named = {words[0] for words in commands_in(README, "make")}
    assert {"quick", "run"} <= named
    listed = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^  make ([\w-]+) ", listed, flags=re.MULTILINE)
    # A newcomer reads the list from above.
    assert targets[:3] == ["help", "quick", "run"]
    assert named <= {*targets}
