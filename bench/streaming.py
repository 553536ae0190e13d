"""Peak memory of quantizing a checkpoint with MBQ a layer at a time, on a generated model of random weights.

Run as `python bench/streaming.py` from the repository's root. It writes a Qwen2-VL checkpoint of about 1.3 GB into a
temporary folder, calibrates and quantizes it in a process of its own, and adds what that took to
`bench/results/mbq.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from full_size_models import write_random_checkpoint
from mbq_page import write_page

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "mbq.json"
PATH = "model.language_model.layers"
LAYERS, HIDDEN, INTERMEDIATE, HEADS, KEY_VALUE_HEADS = 100, 768, 2048, 6, 3
IMAGE_TOKENS, WORDS, SEQUENCES = 25, 20, 8
IMAGE = 5
MIB = 2**20


def generate(folder: Path) -> None:
    """Write a checkpoint of random weights without ever holding more than a shard of it."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(ROOT / "models" / "qwen2_vl_tiny")
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = HIDDEN, INTERMEDIATE, LAYERS
    text.num_attention_heads, text.num_key_value_heads = HEADS, KEY_VALUE_HEADS
    text.layer_types = ["full_attention"] * LAYERS
    text.rope_parameters = {**text.rope_parameters, "mrope_section": [16, 24, 24]}
    config.vision_config.hidden_size = HIDDEN
    write_random_checkpoint(config, folder, shard_bytes=2**26)


def status(key: str) -> float:
    """A memory figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def calibration_batch() -> Any:
    """Sequences of an image, some words and an answer."""
    from reliabit.quant import CalibrationBatch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(40, 300, (1, IMAGE_TOKENS + WORDS), generator=generator)
    ids[:, :IMAGE_TOKENS] = IMAGE
    targets = torch.full_like(ids, -100)
    targets[:, -4:-1] = ids[:, -3:]
    attended = torch.ones_like(ids, dtype=torch.bool)
    inputs = {
        "input_ids": ids,
        "attention_mask": attended.long(),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.randn(100, 3 * 2 * 64, generator=generator),
        "image_grid_thw": torch.tensor([[1, 10, 10]]),
    }
    return CalibrationBatch(inputs=inputs, vision=ids == IMAGE, targets=targets, attended=attended)


def work(folder: Path) -> dict[str, Any]:
    """Calibrate and quantize, and measure."""
    from folder_spool import FolderSpool

    from reliabit.quant import Calibration, Scheme, collect, default_plan
    from reliabit.quant.settings import ScalingConfig
    from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint
    from reliabit.quant.streaming.streamed_decoder import StreamedDecoder

    torch.set_num_threads(1)
    batches = [calibration_batch() for _ in range(SEQUENCES)]
    decoder = StreamedDecoder(folder / "model", PATH, dtype=torch.float32)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    (folder / "spool").mkdir()
    found = collect(decoder, batches, folder / "statistics", key="bench", spool=FolderSpool(folder / "spool"))
    calibrated, after_calibration = status("VmHWM"), time.perf_counter()
    calibration = Calibration(found, ScalingConfig(search="fast", ratios=4, finalists=2))
    plan = default_plan(Scheme("rtn", 3, 128))
    report = quantize_checkpoint(
        folder / "model",
        folder / "quantized",
        plan,
        decoder_layers=PATH,
        calibration=calibration,
        shard_bytes=2**24,
    )
    layer = 2 * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN // 2 + 3 * HIDDEN * INTERMEDIATE)
    return {
        "checkpoint_mib": sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors")) / MIB,
        "layer_mib": layer / MIB,
        "layers": LAYERS,
        "modules": len(report.modules),
        "calibration_peak_mib": calibrated - before,
        "peak_mib": status("VmHWM") - before,
        "calibration_seconds": after_calibration - start,
        "quantize_seconds": time.perf_counter() - after_calibration,
    }


def main() -> None:
    """Generate, measure in another process, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, help="measure in this folder, and print")
    folder = parser.parse_args().work
    if folder is not None:
        print(json.dumps(work(folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        generate(Path(made) / "model")
        command = [sys.executable, __file__, "--work", made]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["streaming"] = json.loads(done.stdout.splitlines()[-1])
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results["streaming"], indent=2))
    write_page(results, ROOT / "docs" / "mbq.md")


if __name__ == "__main__":
    main()
