"""Every benchmark finds what it takes from the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.medium
def test_every_benchmark_imports():
    # By themselves, as names such as `metrics` mean something else beside the tests.
    names = sorted(path.stem for path in BENCH.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(names)}"],
        cwd=BENCH,
        env={**os.environ, "PYTHONPATH": str(BENCH.parent / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
