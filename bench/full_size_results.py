"""`bench/results/full_size.json`: what was measured of the full-size models, by part, with the machine it was on."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reliabit.files import replacing

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "full_size.json"


def machine(device: str) -> dict[str, Any]:
    """What numbers are measured on, without anything that names the host."""
    about: dict[str, Any] = {
        "device": _accelerator() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers")},
    }
    return about if device == "cuda" else {**about, "load": round(os.getloadavg()[0], 1)}


def same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions are of the same machine and versions, however busy it was."""
    return all(one.get(key) == other.get(key) for key in {*one, *other} - {"load"})


def read_results(file: Path = RESULTS) -> dict[str, Any]:
    """What is there already."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def write_results(results: dict[str, Any], file: Path = RESULTS) -> None:
    """Write all results at once."""
    with replacing(file) as unfinished:
        unfinished.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _accelerator() -> str:
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, driver's CUDA {torch.version.cuda}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
