"""Runs a task from a checkout, installed or not: `python src/run.py task=... quant.bits=...`."""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent)

# Launchers start workers that import the package by name.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))
sys.path.insert(0, SOURCE)

try:
    from reliabit.main import main
    from reliabit.process import run_and_leave
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.startswith("reliabit"):
        raise
    sys.stderr.write(
        f"error: {missing.name} is not installed for {sys.executable}; `make setup` installs all that it takes into "
        ".venv: then run .venv/bin/python src/run.py, or `. .venv/bin/activate` first\n"
    )
    sys.exit(2)

if __name__ == "__main__":
    run_and_leave(main)
