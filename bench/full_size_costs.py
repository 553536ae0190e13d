"""Writes `docs/full_size_costs.md`: what each full-size configuration needs, and where each number comes from.

Run as `python bench/full_size_costs.py` from the repository's root; `bench/full_size.py`, `bench/full_size_solvers.py`
and `bench/full_width_streaming.py` give what is measured.
"""

from pathlib import Path
from typing import Any

import torch
from full_size_models import NAMES, WHOLE
from full_size_needs import (
    H100_BYTES_A_SECOND,
    VQAV2,
    Row,
    calibration_bytes,
    question_seconds,
    read_bytes,
    rows,
)
from full_size_results import ROOT, read_results

PAGE = ROOT / "docs" / "full_size_costs.md"
FOUND = Path(__file__).parent / "full_size_found.md"
"""What the tables mean, in words; written by hand, to be read again whenever they change."""
TITLES = {"qwen2_vl_7b": "Qwen2-VL-7B", "idefics3_8b": "Idefics3-8B"}
GIB = 2**30


def layer_results(results: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """What was measured of single layers, by bits and kernel."""
    prefix = f"layers/{name}/"
    return {
        key.removeprefix(prefix): found for key, found in results.get("configurations", {}).items() if prefix in key
    }


def page(results: dict[str, Any]) -> str:
    """The page."""
    lines = ["# What the full-size models cost", "", FOUND.read_text(encoding="utf-8").strip()]
    for name in NAMES:
        lines += ["", f"## {TITLES[name]}", "", *needs(name, results)]
    lines += ["", "## A sweep over VQAv2 on one H100 (computed bounds, not measured)", "", *sweeps()]
    lines += ["", "## Calibration (computed)", "", *calibrations()]
    lines += ["", "## Single layers on a CPU (measured)", "", *layers(results)]
    if "streaming" in results:
        lines += ["", "## Quantizing in bounded memory (measured)", "", *streaming(results["streaming"])]
    return "\n".join(lines) + "\n"


def needs(name: str, results: dict[str, Any]) -> list[str]:
    """Bytes and times by configuration."""
    cells = []
    for row in rows(name):
        size = row.size.size
        cells.append(
            [
                ", ".join(row.methods),
                str(row.bits or ("16" if row.methods == ("none",) else "mixed")),
                f"{size.stored_bytes / GIB:.2f}",
                f"{size.resident_bytes / GIB:.2f}",
                f"{size.effective_bits:.2f}",
                quantize_minutes(results, name, row),
                f"{read_bytes(row.size) / 1e9:.2f}",
                f"{H100_BYTES_A_SECOND / read_bytes(row.size):.0f}",
            ]
        )
    header = ["quant", "bits", "stored GiB", "resident GiB", "bits a weight", "quantize min", "GB a token", "tokens/s"]
    return table(header, cells)


def quantize_minutes(results: dict[str, Any], name: str, row: Row) -> str:
    """Minutes on one CPU thread, from the seconds of a layer, by method where several share a row."""
    if row.methods == ("none",):
        return "0"
    found = []
    for method in row.methods:
        measured = results.get("solvers", {}).get(f"{name}/{method}/{row.bits}")
        if measured is not None:
            found.append(f"{method} {measured['seconds_a_layer'] * WHOLE[name].decoder / 60:.1f}")
    return ", ".join(found) or "not measured"


def sweeps() -> list[str]:
    """Hours for a pass over the questions, each alone and with shared prefixes."""
    cells = []
    for name in NAMES:
        hours = {True: 0.0, False: 0.0}
        for row in rows(name):
            if not {"none", "hqq"} & {*row.methods}:
                continue
            found = {shared: question_seconds(name, row.size, shared=shared) for shared in hours}
            for shared, seconds in found.items():
                hours[shared] += seconds * VQAV2.questions / 3600
            shown = [f"{found[shared] * 1e3:.1f}" for shared in (False, True)]
            hour = [f"{found[shared] * VQAV2.questions / 3600:.2f}" for shared in (False, True)]
            cells.append([TITLES[name], str(row.bits or 16), *shown, *hour])
        cells.append([TITLES[name], "all five", "", "", f"{hours[False]:.2f}", f"{hours[True]:.2f}"])
    return table(["model", "bits", "ms a question", "shared prefix", "hours", "shared prefix"], cells)


def calibrations() -> list[str]:
    """What MBQ and AWQ hold while statistics are measured."""
    cells = []
    for name in NAMES:
        for dtype in (torch.bfloat16, torch.float32):
            found = calibration_bytes(name, dtype)
            shown = [f"{found[part] / GIB:.2f}" for part in ("layer", "states")]
            cells.append([TITLES[name], str(dtype).removeprefix("torch."), *shown, f"{sum(found.values()) / GIB:.2f}"])
    return table(["model", "model.dtype", "a layer GiB", "hidden states GiB", "at least GiB"], cells)


def layers(results: dict[str, Any]) -> list[str]:
    """What one decoder layer takes."""
    cells = []
    for name in NAMES:
        for key, found in layer_results(results, name).items():
            if "layer_mib" not in found:
                continue
            bits, kernel = key.split("/")
            cells.append(
                [
                    TITLES[name],
                    bits,
                    kernel,
                    f"{found['layer_mib']:.0f}",
                    f"{found['layer_milliseconds_a_token']:.1f}",
                    f"{found['layer_gb_a_second']:.1f}",
                    f"{found['copy_gb_a_second']:.1f}",
                    f"{found['resident_over_predicted']:.3f}",
                ]
            )
    if not cells:
        return ["Not measured yet."]
    header = ["model", "bits", "kernel", "MiB", "ms a token", "GB/s", "copy GB/s", "resident / predicted"]
    return [*table(header, cells), "", about(results)]


def about(results: dict[str, Any]) -> str:
    """The machine that single layers were measured on."""
    found = next(found for key, found in results["configurations"].items() if key.startswith("layers/"))["machine"]
    return (
        f"Measured on {found['device']}, {found['threads']} thread, torch {found['torch']}, transformers "
        f"{found['transformers']}, beside other jobs (load {_loads(results)} when a run began); the best of several. "
        "GB/s counts codes as they are stored: `int4pack` keeps 4 bits a weight for 2 and 3 bits too, beside the "
        "stored codes, and `resident / predicted` is without its copy."
    )


def _loads(results: dict[str, Any]) -> str:
    loads = [found["machine"]["load"] for found in results["configurations"].values() if "load" in found["machine"]]
    return " to ".join(str(load) for load in sorted({min(loads), max(loads)}))


def streaming(found: dict[str, Any]) -> list[str]:
    """The proof of bounded memory."""
    return [
        f"A checkpoint of Qwen2-VL-7B's widths with {found['decoder_layers']} of its 28 decoder layers, "
        f"{found['checkpoint_gib']:.2f} GiB, was quantized with HQQ to {found['bits']} bits "
        f"({found['quantized_gib']:.2f} GiB) by a process that the system allowed {found['allowed_gib']} GiB of data. "
        f"Resident memory peaked at {found['peak_gib']:.2f} GiB, mapped pages of the files included. The first process "
        f"was killed after {found['killed_after_layers']} layers and {found['killed_after_seconds']:.0f} s; the second "
        f"went on and took {found['seconds']:.0f} s, on one thread of {found['machine']['device']} at a load of "
        f"{found['machine']['load']}.",
    ]


def table(header: list[str], cells: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells]]


if __name__ == "__main__":
    PAGE.write_text(page(read_results()), encoding="utf-8")
