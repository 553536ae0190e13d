"""How tests start the command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """The variables of this process, but those that change what is printed; also where nothing is installed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "COLUMNS")}
    return {**kept, "PYTHONPATH": str(PROJECT / "src")}


def run_python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's folder to its end, and keep what it prints; options are those of `subprocess.run`."""
    given = {"cwd": PROJECT, "env": environment(), "timeout": 1200, **options}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **given)


def run_job(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `src/run.py` as `run_python` does."""
    return run_python("src/run.py", *arguments, **options)
