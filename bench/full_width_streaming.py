"""Peak memory of quantizing a checkpoint of Qwen2-VL-7B's widths that is larger than the memory it may have.

Run as `python bench/full_width_streaming.py` from the repository's root, with about 10 GB of disk to spare. It writes a
checkpoint of random weights (8 of the 28 decoder layers, the embeddings and the whole vision tower; about 7 GB) into a
temporary folder and quantizes it with HQQ in a process that cannot have more than 6 GiB of memory of its own: the
limit is set by the system (`RLIMIT_DATA`), which refuses any allocation beyond it. The process is killed half-way once,
and a second one goes on. What that took is added to `bench/results/full_size.json`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from full_size_models import DECODER_LAYERS, WHOLE, Depth, full_size_config, write_random_checkpoint
from full_size_results import machine, read_results, write_results

NAME = "qwen2_vl_7b"
DEPTH = Depth(8, WHOLE[NAME].vision)
BITS, GROUP_SIZE = 4, 64
ALLOWED_GIB = 6
GIB = 2**30
KILLED_AFTER = 4
"""Layers that are written before the first process is killed."""


def work(folder: Path) -> dict[str, Any]:
    """Quantize under the limit, and measure."""
    import torch

    from reliabit.quant import Scheme, default_plan
    from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

    resource.setrlimit(resource.RLIMIT_DATA, (ALLOWED_GIB * GIB, ALLOWED_GIB * GIB))
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    plan = default_plan(Scheme("hqq", BITS, GROUP_SIZE))
    report = quantize_checkpoint(folder / "model", folder / "quantized", plan, decoder_layers=DECODER_LAYERS[NAME])
    return {"seconds": time.perf_counter() - start, "modules": len(report.modules), "peak_gib": peak() / GIB}


def peak() -> int:
    """Largest resident memory of this process in bytes, file pages that are mapped included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def killed(command: list[str], unfinished: Path) -> float:
    """Start the work, kill it once some layers are written, and give the seconds that it ran."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)  # noqa: S603 - this very file
    while process.poll() is None and len(list(unfinished.glob("part-*.json"))) < KILLED_AFTER:
        time.sleep(0.05)
    if process.poll() is not None:
        raise SystemExit(f"the work ended before it could be killed, with status {process.returncode}")
    process.kill()
    process.wait()
    return time.perf_counter() - start


def main() -> None:
    """Generate, measure in other processes, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, help="measure in this folder, and print")
    folder = parser.parse_args().work
    if folder is not None:
        print(json.dumps(work(folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        write_random_checkpoint(full_size_config(NAME, DEPTH), place / "model")
        command = [sys.executable, __file__, "--work", made]
        before_kill = killed(command, place / ".quantized.unfinished")
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
        found = {
            "machine": machine("cpu"),
            "decoder_layers": DEPTH.decoder,
            "bits": BITS,
            "group_size": GROUP_SIZE,
            "checkpoint_gib": size(place / "model"),
            "quantized_gib": size(place / "quantized"),
            "allowed_gib": ALLOWED_GIB,
            "killed_after_layers": KILLED_AFTER,
            "killed_after_seconds": before_kill,
            **json.loads(done.stdout.splitlines()[-1]),
        }
    results = read_results()
    results["streaming"] = found
    write_results(results)
    print(json.dumps(found, indent=2))


def size(folder: Path) -> float:
    """GiB of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / GIB


if __name__ == "__main__":
    main()
