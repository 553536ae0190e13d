"""File systems that a test mounts for itself, where this user may."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """A mount of the test's own; it goes with the block, also while a process still writes there (`--lazy`)."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def small_disk(place: Path, *, size: str) -> Iterator[Path]:
    """A disk of that size, such as `100k`, in a folder that is made if it is not there."""
    place.mkdir(parents=True, exist_ok=True)
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", at=place):
        yield place
