"""A small copy of the project under git: clean, so that what it measures may go live, and quick to sweep."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
COPIED = [
    *("conf", "src", "models/qwen2_vl_tiny", "dvc.yaml", "params.yaml"),
    *(".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", ".dvc/plots"),
]
AUTHOR = ["-c", "user.name=test", "-c", "user.email=test@example.org"]


class Checkout:
    """A small project of its own, under git."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source, target = PROJECT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def environment(self) -> dict[str, str]:
        hidden = ("HYDRA_FULL_ERROR", "PYTHONPATH")
        return {
            **{name: value for name, value in os.environ.items() if name not in hidden},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.root, env=self.environment(), check=False
        )

    def job(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "src/run.py", *arguments)

    def reliabit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*RELIABIT, *arguments)

    def dvc(self, *arguments: str) -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self) -> list[str]:
        """The stages that ran."""
        return re.findall(r"^Running stage '([^']+)'", self.dvc("repro"), re.MULTILINE)

    def change(self, path: str, **values) -> None:
        file = self.root / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}, sort_keys=False))

    def commit(self, message: str) -> None:
        if not (self.root / ".git").is_dir():
            assert self.run("git", "init", "--quiet").returncode == 0
        assert self.run("git", "add", "--all").returncode == 0
        done = self.run("git", *AUTHOR, "commit", "--quiet", "--message", message)
        assert done.returncode == 0, done.stdout + done.stderr


RELIABIT = [sys.executable, "-c", "from reliabit.cli import main; main()"]
