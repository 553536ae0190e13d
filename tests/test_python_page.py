"""The pages on own predictions and on Python: their commands and blocks run, and give what is shown there."""

import json
import re

import matplotlib as mpl
import pytest

from notebooks import NOTEBOOK, PAGE, PROJECT, cells_of, notebook, run
from reliabit.cli import main

PREDICTIONS = PROJECT / "docs" / "own_predictions.md"

COMMAND = re.compile(r"^    reliabit metrics (.+)$", re.MULTILINE)

LARGEST = 300_000
"""Bytes of a notebook."""


def test_the_page_shows_what_the_command_prints(monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("COLUMNS", "80")
    text = PREDICTIONS.read_text()
    main(["metrics", *COMMAND.findall(text)[0].split()])
    printed = capsys.readouterr().out
    shown = re.search(r"^    Headline.*?\n(?=\n\S)", text, re.MULTILINE | re.DOTALL)[0]
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE).strip() in printed


@pytest.mark.parametrize("arguments", COMMAND.findall(PREDICTIONS.read_text())[1:])
def test_every_command_of_the_page_runs(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    main(["metrics", *arguments.split(), "--resamples", "20"])
    printed = capsys.readouterr()
    written = {path.name for path in tmp_path.iterdir()} - {"docs"}
    assert written == ({"report.json", "figures"} if "--output" in arguments else set())
    assert bool(printed.out) == ("--output" not in arguments)


def without_numbers(outputs):
    """What a cell gives, but for digits, signs of a rounding, and pictures."""
    text = json.dumps([{**one, "data": {**one.get("data", {}), "image/png": ""}} for one in outputs])
    return re.sub(r"[ \d.+-]+", "0", text)


@pytest.mark.medium
def test_the_notebook_is_the_page_and_gives_what_it_shows():
    """Run as it stands; numbers may differ in their last digits from one machine to another."""
    cells = cells_of(PAGE.read_text())
    found = json.loads(NOTEBOOK.read_text())
    with mpl.rc_context():
        given = run(cells)
    made = notebook(cells, given)
    assert [cell["source"] for cell in found["cells"]] == [cell["source"] for cell in made["cells"]], (
        "docs/python.md has changed; run `python tests/notebooks.py`"
    )
    for kept, now in zip(found["cells"], made["cells"], strict=True):
        assert without_numbers(kept.get("outputs", [])) == without_numbers(now.get("outputs", []))
        assert {**kept, "outputs": 0} == {**now, "outputs": 0}
    assert (found["metadata"], found["nbformat"], found["nbformat_minor"]) == (made["metadata"], 4, 5)


def test_the_notebook_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text()
    assert len(text.encode()) < LARGEST
    assert re.findall(r"/(?:home|root|tmp|work|Users)/", text) == []
    ids = [cell["id"] for cell in json.loads(text)["cells"]]
    assert len(ids) == len(set(ids))
