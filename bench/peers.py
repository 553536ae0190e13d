r"""Quantizers that people use, and this project's, on the decoder of the pretrained reference: one table.

    make pretrained                                             # the model, half a minute
    python bench/peers.py --environments <folder> --install     # an environment for each library, some GB
    python bench/peers.py --environments <folder>               # every cell that is missing, most telling first
    python bench/peers.py --page                                # the page again, from the results

Each cell is one library at one width and group size. It quantizes in a process and an environment of its own, so that
its seconds and its memory are its own; what it writes is read back here, and all are judged by one piece of code on the
same questions. The results among those of `bench` grow a cell at a time, and what is in them is not measured again;
`--minutes` starts no cell after so many. A page beside this file shows them.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers_page import write_page

from reliabit.files import replacing, staged_folder

if TYPE_CHECKING:
    from peers_judging import Judge

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "peers.json"
THREADS = 1
SETTINGS = {"calibration": 128, "judged": 200, "asked": 200, "layers": 30, "threads": THREADS}
"""Questions of `dev` (one an image), questions of `val`, images of `test`, decoder layers, threads to quantize with."""

TRIAL = {"calibration": 16, "judged": 10, "asked": 5, "layers": 2, "threads": THREADS}
"""What shows in a minute that a library works here; it says nothing of its quality."""

_COMMON = ("torch==2.13.0", "numpy==2.4.6")
ENVIRONMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "llm_compressor": ((*_COMMON, "llmcompressor==0.14.0.1"),),
    "auto_round": ((*_COMMON, "transformers==5.23.0", "auto-round==0.16.1"),),
    "gptqmodel": (
        (
            *_COMMON,
            "transformers==5.23.0",
            "accelerate==1.15.0",
            "datasets==5.2.0",
            "pillow==13.0.0",
            "protobuf==7.36.2",
            "pyarrow==26.0.0",
            "torchao==0.18.0",
            "pypcre",
            "tokenicer",
            "logbar",
            "device-smi",
            "defuser",
            "dill",
            "threadpoolctl",
            "filelock",
            "jinja2",
            "requests",
            "ninja",
            "maturin",
            "setuptools",
            "wheel",
        ),
        # It asks for torch 2.14, and runs with 2.13 on a CPU.
        ("--no-deps", "--no-build-isolation", "gptqmodel==7.7.0"),
    ),
}
"""What pip installs for each, in turn; torch has to be its CPU build."""

LIBRARIES = ("llm_compressor_gptq", "llm_compressor_awq", "gptqmodel", "auto_round", "auto_round_light", "hqq_library")
_DATA_FREE = ("rtn", "hqq", "hqq_plus", "hqq_plus_integer")
OWN = (*_DATA_FREE, "awq", "mbq", "gptq", "gptq_integer", "gptaq", "gptq_modality", "gptq_token")
WIDTHS, GROUPS = (3, 2, 4), (64, 32)
LONGEST = 3600.0
"""Seconds that a quantization may take."""


def install(folder: Path) -> None:
    """Make an environment for each library."""
    for name, steps in ENVIRONMENTS.items():
        called(sys.executable, "-m", "venv", str(folder / name))
        python = str(folder / name / "bin" / "python")
        for packages in steps:
            called(python, "-m", "pip", "install", "--quiet", *packages)
        cuda = called(python, "-c", "import torch; print(torch.version.cuda)").strip()
        if cuda != "None":
            raise SystemExit(f"{name} has torch for CUDA {cuda}: install its CPU build")


def called(*command: str) -> str:
    """What a command that has to succeed prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - built here


def python_of(recipe: str, environments: Path | None) -> str:
    """The interpreter that a recipe runs in: its library's, or this one."""
    for name in ENVIRONMENTS:
        if recipe.startswith(name):
            if environments is None:
                raise SystemExit(f"{recipe} needs --environments, see --install")
            return str(environments / name / "bin" / "python")
    return sys.executable


def key_of(recipe: str, bits: int, group: int) -> str:
    """The name of a cell.

    >>> key_of("mbq", 3, 64)
    '3 bits, groups of 64, mbq'
    """
    return f"{bits} bits, groups of {group}, {recipe}"


def folder_of(recipe: str, bits: int, group: int, *, work: Path) -> Path:
    """Where a quantized decoder lies until it is judged."""
    return work / f"{recipe}-{bits}-{group}"


def quantize(recipe: str, bits: int, group: int, *, work: Path, environments: Path | None) -> str | None:
    """Quantize in a process of its own, unless that is done; the last line of what it said where it failed."""
    folder = folder_of(recipe, bits, group, work=work)
    if (folder / "measured.json").is_file():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    script = str(Path(__file__).with_name("peers_quantizing.py"))
    command = [python_of(recipe, environments), script, recipe, "--decoder", str(work / "decoder"), "--to", str(folder)]
    command += ["--bits", str(bits), "--group", str(group), "--threads", str(THREADS)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - built here
            command, capture_output=True, text=True, timeout=LONGEST, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (lines or [f"exit {done.returncode}"])[-1][:300]


def judge_cell(judge: "Judge", folder: Path, *, bits: int) -> dict[str, Any]:
    """Read a quantized decoder back, judge it, and forget it."""
    from peers_formats import read_checkpoint

    grids, rest = read_checkpoint(folder, bits=bits)
    judge.put(grids, rest)
    size = sum(grid.stored_bytes(bits) for grid in grids.values())
    weights = sum(grid.codes.numel() for grid in grids.values())
    took = json.loads((folder / "measured.json").read_text())
    found = {"bytes": size, "bits_a_weight": round(8 * size / weights, 4), **took, **judge.measure()}
    shutil.rmtree(folder)
    return found


def read_results(path: Path, settings: dict[str, int]) -> dict[str, Any]:
    """What was measured so far."""
    return dict(json.loads(path.read_text())) if path.is_file() else {"settings": settings, "cells": {}}


def write_results(results: dict[str, Any], path: Path, page: Path) -> None:
    """Write results and page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(results, indent=2) + "\n")
    write_page(results, page)


def missing_cells(results: dict[str, Any], wanted: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Cells to measure, in order: all libraries at one width and group size, then the next."""
    for group, bits, recipe in product(wanted.groups, wanted.bits, wanted.only):
        if key_of(recipe, bits, group) not in results["cells"]:
            yield recipe, bits, group


def measure(results: dict[str, Any], wanted: argparse.Namespace, save: Callable[[], None]) -> None:
    """Measure what is missing, and save each cell as it comes."""
    work, end = wanted.work, time.monotonic() + 60 * wanted.minutes
    judge = None if wanted.quantize_only and (work / "decoder").is_dir() else prepare(results, wanted)
    for recipe, bits, group in missing_cells(results, wanted):
        if time.monotonic() > end:
            break
        key = key_of(recipe, bits, group)
        failure = quantize(recipe, bits, group, work=work, environments=wanted.environments)
        print(key, failure or "quantized", flush=True)
        if judge is None or wanted.quantize_only:
            continue
        folder = folder_of(recipe, bits, group, work=work)
        results["cells"][key] = {"recipe": recipe, "bits": bits, "group": group} | (
            judge_cell(judge, folder, bits=bits) if failure is None else {"failed": failure}
        )
        print(json.dumps(results["cells"][key]), flush=True)
        save()


def prepare(results: dict[str, Any], wanted: argparse.Namespace) -> "Judge":
    """Load the model and the questions, write what libraries are given, and judge the unquantized model."""
    import torch
    from peers_inputs import load_subject, write_inputs
    from peers_judging import Judge

    settings = results["settings"]
    torch.set_num_threads(settings["threads"])
    counts = {name: settings[name] for name in ("calibration", "judged", "asked", "layers")}
    subject = load_subject(wanted.data or wanted.work / "data", **counts)
    if not (wanted.work / "decoder").is_dir():
        with staged_folder(wanted.work / "decoder") as staging:
            write_inputs(subject, staging, batch_size=16)
    judge = Judge(subject.checkpoint, subject.judged, subject.asked)
    if "unquantized" not in results:
        results |= {"unquantized": judge.measure(), "machine": machine(), "questions": len(subject.asked)}
    return judge


def machine() -> dict[str, Any]:
    """What it was measured on, without anything that names the host."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":")[1].strip() for line in cpu if line.startswith("model name")]
    return {"cpu": (names or [platform.processor()])[0], "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> None:
    """Install, measure, or write the page again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, help="the folder of the libraries' environments")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "peers", help="for what lasts a cell or all")
    parser.add_argument("--install", action="store_true", help="make the environments, and nothing else")
    parser.add_argument("--page", action="store_true", help="write the page from the results that there are")
    parser.add_argument("--quantize-only", action="store_true", help="leave the judging to a later call")
    parser.add_argument("--only", nargs="+", default=[*LIBRARIES, *OWN], choices=[*LIBRARIES, *OWN])
    parser.add_argument("--bits", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--groups", nargs="+", type=int, default=list(GROUPS))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--data", type=Path, help="prepared questions that there are already, such as data/")
    parser.add_argument("--trial", action="store_true", help="two layers and a few questions, told in --work alone")
    wanted = parser.parse_args()
    settings, path, page = SETTINGS, RESULTS, ROOT / "bench" / "peers_found.md"
    if wanted.trial:
        wanted.work /= "trial"
        settings, path, page = TRIAL, wanted.work / "peers.json", wanted.work / "peers_found.md"
    results = read_results(path, settings)
    if wanted.install:
        if wanted.environments is None:
            parser.error("--install needs --environments")
        install(wanted.environments)
    elif wanted.page:
        write_results(results, path, page)
    else:
        measure(results, wanted, lambda: write_results(results, path, page))


if __name__ == "__main__":
    main()
