"""The page that `bench/mbq.py` and `bench/streaming.py` write."""

from pathlib import Path
from typing import Any

FOUND = Path(__file__).parent / "mbq_found.md"
"""What the numbers mean, in words; written by hand, to be read again whenever they change."""
METRICS = {
    "relative_loss": "loss",
    "layer_error": "layers",
    "logit_error": "logits",
    "divergence": "KL",
    "accuracy": "accuracy",
    "aurc": "AURC",
    "coverage_at_1pct_risk": "C@1%",
}
NAMES = {"qwen2_vl": "Qwen2-VL reference model", "idefics3": "Idefics3 reference model"}


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the page of the results that there are."""
    lines = ["# Modality-balanced quantization, measured", "", FOUND.read_text(encoding="utf-8").strip()]
    for family, found in results.get("models", {}).items():
        lines += ["", f"## {NAMES[family]}", "", *quality_section(found, results), "", *speed_section(found["speed"])]
    if "streaming" in results:
        lines += ["", "## A layer at a time", "", *streaming_section(results["streaming"])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def quality_section(found: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """Errors and answers by width and method."""
    rows = [[str(row["bits"]), row["method"], *(shown(row, key) for key in METRICS)] for row in found["quality"]]
    return [
        f"Calibrated on {results['calibration_images']} images of `dev`, the mean and standard deviation of "
        f"{results['seeds']} draws. *loss*: the search's loss after scaling, relative to before. *layers*, *logits*: "
        "mean absolute error of the decoder layers' outputs and of the logits at answer positions, relative to their "
        f"magnitude, and *KL* from the exact distribution, on {results['held_out_images']} images of `test`. The "
        f"rest: greedy answers to all questions on {results['asked_images']} other images of `test`, one draw, with "
        f"the answer's probability as confidence. Groups of {results['group_size']}.",
        "",
        *table(["bits", "method", *METRICS.values()], rows),
    ]


def shown(row: dict[str, Any], key: str) -> str:
    """A figure with its deviation, if it has one."""
    if key not in row:
        return ""
    if key == "divergence":
        return f"{1e3 * row[key]:.2f}e-3"
    digits = 4 if key in ("layer_error", "logit_error", "aurc") else 3
    deviation = f" ± {row[f'{key}_deviation']:.{digits}f}" if f"{key}_deviation" in row else ""
    return f"{row[key]:.{digits}f}{deviation}"


def speed_section(speed: dict[str, Any]) -> list[str]:
    """Fast against faithful, and four widths against one."""
    rows = [
        [
            str(row["bits"]),
            f"{row['fast_seconds']:.2f}",
            f"{row['faithful_seconds']:.2f}",
            f"{row['faithful_seconds'] / row['fast_seconds']:.1f}",
            f"{row['fast_loss'] / row['faithful_loss']:.4f}",
            f"{row['fast_loss'] / row['unscaled_loss']:.3f}",
        ]
        for row in speed["widths"]
    ]
    return [
        "Seconds of computing that the search takes on one thread, statistics left out; losses as the faithful search "
        "judges them:",
        "",
        *table(["bits", "fast", "faithful", "speed-up", "loss, fast / faithful", "loss, fast / unscaled"], rows),
        "",
        f"Encoding the calibration set and measuring statistics took {speed['calibrate']:.2f} s. With search, folding "
        f"and packing, one width took {speed['one_width']:.2f} s and four widths {speed['four_widths']:.2f} s: "
        f"{speed['four_widths'] / speed['one_width']:.2f} times one.",
    ]


def streaming_section(found: dict[str, float]) -> list[str]:
    """Peak memory of the streamed way."""
    return [
        f"A generated Qwen2-VL checkpoint of {found['checkpoint_mib']:.0f} MiB with {found['layers']} layers of "
        f"{found['layer_mib']:.1f} MiB in bfloat16 was calibrated in float32 and quantized to 3 bits, from safetensors "
        f"to safetensors. Resident memory rose by at most {found['calibration_peak_mib']:.0f} MiB while calibrating "
        f"and {found['peak_mib']:.0f} MiB in all: the checkpoint is {found['checkpoint_mib'] / found['peak_mib']:.1f} "
        f"times larger. It took {found['calibration_seconds']:.0f} s and {found['quantize_seconds']:.0f} s on one "
        "thread.",
    ]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
