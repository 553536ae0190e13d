"""Every command of docs/full_size.md runs, on small files in the same layouts and small models of the same classes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data.vqa_files import ADVQA, vqa_entries, write_hub_vizwiz, write_hub_vqa, write_vizwiz, write_vqa
from launching import PROJECT

PAGE = PROJECT / "docs" / "full_size.md"
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in block.splitlines()
    if line
]
PREPARE = [command for command in COMMANDS if "task=prepare" in command]
OTHERS = [command for command in COMMANDS if "task=prepare" not in command]
STAND_INS = {"qwen2_vl_7b": "qwen2_vl_tiny", "idefics3_8b": "idefics3_tiny"}
QUICK = [
    "trainer.accelerator=cpu",
    "trainer.batch_size=16",
    "trainer.threads=1",
    "trainer.progress_bar=false",
    "evaluation.resamples=20",
    "model.max_new_tokens=2",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the page describes it: downloads, published lists, the hub's local cache."""
    root = tmp_path_factory.mktemp("place")
    write_hub_vqa(write_vqa(root / "downloads" / "vqav2", images=20))
    write_vqa(root / "downloads" / "advqa", files=ADVQA, images=4)
    write_hub_vizwiz(write_vizwiz(root / "downloads" / "vizwiz"))
    ids = [question["question_id"] for question in vqa_entries(images=20, questions_per_image=3)[0]]
    (root / "ids").mkdir()
    (root / "ids" / "dev.json").write_text(json.dumps(ids[:24]))
    (root / "ids" / "val.json").write_text(json.dumps(ids[24:30]))
    (root / "ids" / "test.txt").write_text("\n".join(map(str, ids[30:])))
    for name, stand_in in STAND_INS.items():
        model = OmegaConf.load(PROJECT / "conf" / "model" / f"{name}.yaml")
        repository = "models--" + model.path.removeprefix("hub:").replace("/", "--")
        shutil.copytree(PROJECT / "models" / stand_in, root / "hub" / repository / "snapshots" / model.revision)
    shutil.copytree(PROJECT / "models" / "qwen2_vl_tiny", root / "checkpoints" / "my-qwen")
    return root


def run(command: str, place: Path, *extra: str) -> subprocess.CompletedProcess:
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "src/run.py")
    environment = {**os.environ, "HF_HUB_CACHE": str(place / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(PROJECT / script), *arguments, f"paths.root={place}", *extra],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_commands_of_every_kind():
    assert len(PREPARE) >= 8
    assert any(" -m " in command for command in OTHERS)
    for name in ("vqav2", "advqa", "vizwiz", "vqav2_hub", "vizwiz_hub"):
        assert any(f"data={name}" in command.split() for command in PREPARE), name


@pytest.mark.parametrize("command", PREPARE)
def test_data_is_prepared_as_the_page_says(command, place):
    done = run(command, place)
    assert done.returncode == 0, done.stderr
    assert re.search(r"test +\d+ questions, \d+ images, sha256", done.stdout)


@pytest.mark.parametrize("command", [command for command in OTHERS if "task=footprint" in command])
def test_pinned_checkpoints_are_found_as_the_page_says(command, place):
    done = run(command, place)
    assert done.returncode == 0, done.stderr
    assert "weights" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in OTHERS if "task=footprint" not in command])
def test_the_runs_of_the_page_run_in_its_order(command, place):
    done = run(command, place, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "cannot be used" not in done.stderr
