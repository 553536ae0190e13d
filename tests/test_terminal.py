"""What is printed suits the width: the columns wanted most, nothing cut, and Markdown as it is meant to look."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reliabit.terminal import Column, as_typed, fitting, show_markdown, show_result, show_table, width_of

NAMES = ["none", "mbq·4b", "mbq·3b", "mbq·2b"]
COLUMNS = [
    Column("configuration", NAMES, left=True),
    Column("accuracy %", ["85.3", "85.1", "84.0", "71.9"], priority=1),
    Column("AURC %", ["3.21", "3.25", "3.41", "8.10"], priority=2),
    Column("ECE %", ["1.1", "1.2", "1.3", "4.4"], priority=6),
    Column("C@1%", ["77.0", "76.1", "70.9", "0.0"], priority=3),
    Column("certified C@5%", ["61.1", "60.2", "57.3", "-"], priority=4),
    Column("stored MiB", ["12.34", "3.41", "2.71", "1.98"], priority=5),
    Column("questions/s", ["300", "310", "305", "299"], priority=7),
]
FIRST = ["configuration", "accuracy %", "AURC %", "C@1%", "certified C@5%", "stored MiB"]


class Screen(io.StringIO):
    """A terminal, as far as anybody asks."""

    def isatty(self):
        return True


def printed(show, *arguments, width=None, monkeypatch, **named):
    screen = io.StringIO() if width is None else Screen()
    monkeypatch.setenv("TERM", "xterm")
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    show(*arguments, file=screen, **named)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()) if width else screen.getvalue()


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (13, FIRST[:1]),
        (40, FIRST[:4]),
        (60, FIRST),
        (70, [*FIRST[:3], "ECE %", *FIRST[3:]]),
        (120, [column.heading for column in COLUMNS]),
    ],
)
def test_columns_are_chosen_by_width(width, shown):
    kept = fitting(COLUMNS, width=width)
    assert [column.heading for column in kept] == shown
    assert width_of(kept) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_is_no_wider_than_the_terminal_and_nothing_of_it_is_cut(width, monkeypatch):
    text = printed(
        show_table, COLUMNS, title="tiny · easy_vqa", whole="summary.csv", width=width, monkeypatch=monkeypatch
    )
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    kept = fitting(COLUMNS, width=width)
    for column in kept:
        assert all(cell in text for cell in column.cells)
    for column in COLUMNS:
        assert column in kept or column.heading in text.partition("No room here for ")[2].replace("\n", "")
    assert "All columns: summary.csv" in text


def test_a_file_gets_every_column_and_no_escape_codes(monkeypatch):
    text = printed(show_table, COLUMNS, title="tiny", monkeypatch=monkeypatch)
    lines = text.splitlines()
    assert lines[1].split() == " ".join(column.heading for column in COLUMNS).split()
    assert lines[3].split() == ["none", "85.3", "3.21", "1.1", "77.0", "61.1", "12.34", "300"]
    assert "\x1b" not in text
    assert "No room" not in text


def test_a_name_that_is_too_long_is_broken_and_not_cut(monkeypatch):
    name = "a_model_folder_of_somebody·" * 3
    columns = [Column("configuration", [name], left=True), Column("AURC %", ["3.21"])]
    text = printed(show_table, columns, width=40, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 40
    body = text.splitlines()[3:]
    assert "".join(line.replace("3.21", "").strip() for line in body) == name
    assert "3.21" in body[0]


def test_what_looks_like_markup_is_printed_as_it_is(monkeypatch):
    text = printed(show_result, "a [bold]run[/bold]", [("accuracy", "85.3 % [83.0, 87.1]")], monkeypatch=monkeypatch)
    assert text == "a [bold]run[/bold]\n  accuracy  85.3 % [83.0, 87.1]\n"


def test_a_result_can_be_copied_line_by_line(monkeypatch):
    command = "python src/run.py " + "quant.bits=4 " * 12 + "seed=0"
    text = printed(show_result, "done", [("folder", "x" * 100)], then=command, width=60, monkeypatch=monkeypatch)
    assert [line.strip() for line in text.splitlines()] == ["done", f"folder  {'x' * 100}", f"next    {command}"]


WIDE = (
    "# Verdict\n\nIt is **refused**.\n\n| name | " + " | ".join(f"column {number}" for number in range(12)) + " |\n"
    "| --- |" + " --- |" * 12 + "\n| none |" + " 12.34 [11.11, 13.13] |" * 12 + "\n\nThe end.\n"
)


def test_markdown_is_shown_as_it_is_meant_to_look(monkeypatch):
    text = printed(
        show_markdown,
        "# Verdict\n\nIt is **refused**.\n\n| a | b |\n| --- | --- |\n| x | 1.5 |\n",
        width=60,
        monkeypatch=monkeypatch,
    )
    assert "**" not in text
    assert "|" not in text
    assert "---" not in text
    assert ["x", "1.5"] in [line.split() for line in text.splitlines()]


def test_a_table_of_markdown_that_is_too_wide_becomes_a_list(monkeypatch):
    text = printed(show_markdown, WIDE, width=80, monkeypatch=monkeypatch)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "none" in lines
    assert [line for line in lines if line.startswith("  column ")] == [
        f"  {f'column {number}'.ljust(9)}  12.34 [11.11, 13.13]" for number in range(12)
    ]
    assert lines[-1] == "The end."


def test_markdown_is_itself_where_nobody_looks_on(monkeypatch):
    assert printed(show_markdown, WIDE, monkeypatch=monkeypatch) == WIDE


def test_the_next_command_works_where_the_environment_was_not_activated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "reliabit"):
        (programs / name).touch(mode=0o755)
    elsewhere, prefix = {"PATH": "/usr/bin"}, str(tmp_path / ".venv")
    typed = as_typed("python src/run.py -m quant.bits=2,4", environ=elsewhere, prefix=prefix)
    assert typed == ".venv/bin/python src/run.py -m quant.bits=2,4"
    assert as_typed("reliabit serve", environ=elsewhere, prefix=prefix) == ".venv/bin/reliabit serve"
    assert as_typed("make ui", environ=elsewhere, prefix=prefix) == "make ui"
    for activated in ({**elsewhere, "VIRTUAL_ENV": prefix}, {"PATH": f"{programs}:/usr/bin"}):
        assert as_typed("reliabit serve", environ=activated, prefix=prefix) == "reliabit serve"


def test_a_run_without_its_packages_says_what_to_do(tmp_path):
    script = Path(__file__).parents[1] / "src" / "run.py"
    done = subprocess.run([sys.executable, "-S", "-I", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not installed for" in done.stderr
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr
