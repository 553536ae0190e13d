"""The examples of docs/own_data.md do what the page says, each as it is copied."""

import re
import shlex
import subprocess
import sys

import pytest

from added_packages import composed
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.paths import project_root

pytestmark = pytest.mark.medium

SETS = 6
"""Five examples, the last of which reads two."""


def blocks() -> list[str]:
    """The shell and Python blocks of the page, in order, each as a shell script."""
    text = (project_root() / "docs" / "own_data.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(bash|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        code if kind == "bash" else f"{shlex.quote(sys.executable)} - <<'PYTHON'\n{code}PYTHON\n"
        for kind, code in found
    ]


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """The folder in which all examples were run, and the arguments that they call the program with."""
    folder = tmp_path_factory.mktemp("copied")
    (folder / "models").symlink_to(project_root() / "models")
    (folder / "options").mkdir()
    # Whatever calls the program leaves its arguments; what it does with them is tried below.
    noted = 'python() { shift; printf "%s\\n" "$*" >> calls; }\n'
    script = "set -e\n" + noted + "\n".join(blocks())
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True)
    return folder, [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_there_are_five_examples_and_one_with_a_model(calls):
    _, lines = calls
    assert len({next(part for part in line if part.startswith("data.root=")) for line in lines}) == SETS
    assert "model.path=my_model" in lines[-1]


def test_every_example_is_read(calls, monkeypatch, capsys):
    folder, lines = calls
    monkeypatch.chdir(folder)
    found = {}
    for line in lines:
        config = composed(folder, *line)
        table = prepare(config.data, root=folder / "tables")
        records = {name: (record.questions, record.images) for name, record in read_manifest(table).items()}
        found[config.data.called()] = records, load_split(table, "test")
    assert {name: records for name, (records, _) in found.items()} == {
        "shapes": {"test": (20, 20)},
        "annotated": {"test": (2, 2)},
        "typed": {"dev": (1, 1), "val": (1, 1), "test": (1, 1)},
        "imagefolder": {"test": (2, 2)},
        "saved": {"test": (2, 2)},
        "pictures": {"test": (2, 2)},
    }
    shown = capsys.readouterr().err
    assert "20 test questions tell an accuracy to about ±20 points" in shown
    answers = {row["question_id"]: row["answers"] for row in found["annotated"][1]}
    assert (answers["1"].count("red"), answers["1"].count("orange"), {*answers["2"]}) == (8, 4, {"green"})
    # The pictures of the image folder, the saved folder and Parquet are those of the first example.
    first, second = ((folder / "shapes" / "images" / f"{number}.png").read_bytes() for number in (0, 1))
    for name in ("imagefolder", "saved", "pictures"):
        rows = {row["question_id"]: row["image"] for row in found[name][1]}
        assert (rows["1"], rows["2"]) == (first, second)
