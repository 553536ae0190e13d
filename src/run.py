"""Runs a task from a checkout, installed or not: `python src/run.py task=... quant.bits=...`."""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent)

# Launchers start workers that import the package by name.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))
sys.path.insert(0, SOURCE)

from reliabit.main import main  # noqa: E402
from reliabit.process import run_and_leave  # noqa: E402

if __name__ == "__main__":
    run_and_leave(main)
