"""A fresh clone answers what DVC's users ask first, from git alone: no cache, no remote, nothing run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
TAKEN = (
    "dvc.yaml",
    "params.yaml",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots/cells.json",
)
CELLS = ("none", "hqq-8bit", "hqq-4bit", "mbq-8bit", "mbq-4bit")
COMMANDS = (["metrics", "show"], ["metrics", "diff", "HEAD~1"], ["metrics", "diff", "HEAD"], ["plots", "show"])
END = "## end"
NUMBERS = {"accuracy %": 91.4, "AURC %": 1.03, "certified C@5%": 86.14}


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *author, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def write(folder: Path, cell: str, **changed: float) -> None:
    path = folder / "reports" / f"qwen2_vl_tiny-{cell}-easy_vqa.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(NUMBERS | changed) + "\n")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of a repository whose last commit made one cell worse."""
    origin = tmp_path_factory.mktemp("origin")
    for name in TAKEN:
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, origin / name)
    for cell in CELLS:
        write(origin, cell)
    curves = [f"{cell},{coverage},{coverage / 20}" for cell in CELLS for coverage in (50, 100)]
    (origin / "reports" / "qwen2_vl_tiny-easy_vqa.csv").write_text("\n".join(["cell,coverage,risk", *curves, ""]))
    git(origin, "init", "--quiet")
    for message in ("All cells", "Another one"):
        git(origin, "add", "--all")
        git(origin, "commit", "--quiet", "--message", message)
        write(origin, "mbq-4bit", **{"accuracy %": 90.0})
    folder = tmp_path_factory.mktemp("clones") / "clone"
    git(origin, "clone", "--quiet", str(origin), str(folder))
    return folder


@pytest.fixture(scope="module")
def shown(clone):
    """What each command prints, one after the other in one process, as starting DVC takes longest."""
    lines = (
        "from dvc.cli import main",
        f"for words in {COMMANDS}:",
        "    assert main(words) == 0",
        f"    print('{END}')",
    )
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-u", "-c", "\n".join(lines)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(map(" ".join, COMMANDS), done.stdout.split(f"{END}\n"), strict=False))


def test_metrics_are_shown_a_line_a_cell(shown):
    lines = shown["metrics show"].splitlines()
    assert {name for name in NUMBERS if name in lines[0]} == set(NUMBERS)
    assert {line.split()[0] for line in lines[1:] if line} == {
        f"reports/qwen2_vl_tiny-{cell}-easy_vqa.json" for cell in CELLS
    }


def test_a_commit_differs_where_a_metric_does(shown):
    heading, line = shown["metrics diff HEAD~1"].splitlines()
    assert heading.split() == ["Path", "Metric", "HEAD~1", "workspace", "Change"]
    assert line.split() == ["reports/qwen2_vl_tiny-mbq-4bit-easy_vqa.json", "accuracy", "%", "91.4", "90.0", "-1.4"]
    assert shown["metrics diff HEAD"] == ""


def test_the_curves_of_all_cells_are_one_chart_and_git_does_not_see_it(shown, clone):
    page = clone / "dvc_plots" / "index.html"
    assert shown["plots show"].strip() == page.as_uri()
    text = page.read_text()
    assert "qwen2_vl_tiny on easy_vqa: what the answers of each cell risk" in text
    assert "<DVC_METRIC" not in text
    assert text.count("vegaEmbed(") == 1
    for cell in CELLS:
        assert f'"cell": "{cell}"' in text
    assert git(clone, "status", "--porcelain") == ""


def test_the_made_cells_are_those_of_the_pipeline():
    pipeline = yaml.safe_load((PROJECT / "params.yaml").read_text())["pipeline"]
    named = {f"{quantizer}-{bits}bit" for quantizer in pipeline["quantizers"] for bits in pipeline["bits"]}
    assert {"none", *named} == set(CELLS)
