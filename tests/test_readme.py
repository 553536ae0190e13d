"""The way in: every command that the README and the page of commands name is there, and what they link exists."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from launching import PROJECT
from reliabit.cli import parser
from reliabit.composition import register, to_config
from reliabit.paths import conf_folder

README, COMMANDS = PROJECT / "README.md", PROJECT / "docs" / "use.md"
LINK = re.compile(r"""(?:\]\(|<img src=")([^)#"]+)(?:#[\w-]+)?[)"]""")


def commands_in(page: Path, beginning: str) -> list[list[str]]:
    """The words after a beginning, of each line of code that has it; without what a shell does with them."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(beginning)]
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


def test_every_command_of_ours_that_is_named_is_one():
    action = next(one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    named = commands_in(README, "reliabit")
    assert {"promote", "serve", "metrics"} <= {words[0] for words in named}
    for words in named:
        assert words[0] in action.choices
        parser().parse_args(words)


@pytest.mark.medium
@pytest.mark.parametrize("page", [README, COMMANDS], ids=lambda page: page.name)
def test_every_run_that_is_named_composes(page, tmp_path):
    register()
    named = commands_in(page, "python src/run.py")
    assert len(named) >= 4
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for words in named:
            # Of a sweep's lists the first value; one that is resumed takes its values from the store.
            given = [re.sub(r"(?<==)(\w+),[\w,]+$", r"\1", word) for word in words if not word.startswith("-")]
            to_config(compose("config", overrides=[word.replace("<id>", "0") for word in given]))
