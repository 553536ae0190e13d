"""The page that `bench/peers.py` writes of its results."""

import textwrap
from pathlib import Path
from typing import Any

NAMES = {
    "llm_compressor_gptq": "llm-compressor GPTQ",
    "llm_compressor_awq": "llm-compressor AWQ",
    "gptqmodel": "GPTQModel GPTQ",
    "auto_round": "AutoRound, 200 steps",
    "auto_round_light": "AutoRound, 50 steps",
    "hqq_library": "hqq",
    "rtn": "**rtn**",
    "hqq": "**hqq**, float zero",
    "hqq_plus": "**hqq_plus**, float zero",
    "hqq_plus_integer": "**hqq_plus**",
    "awq": "**awq**",
    "mbq": "**mbq**",
    "gptq": "**gptq**, float zero",
    "gptq_integer": "**gptq**",
    "gptaq": "**gptaq**",
    "gptq_modality": "**gptq_modality**",
    "gptq_token": "**gptq_token**",
}
"""How recipes are called on the page; this project's in bold."""

WHOLE = 30
"""Decoder layers of the model."""

HEADER = ["quantizer", "bits/weight", "MiB", "KL", "NLL", "accuracy", "AURC", "C@1%", "processor s", "peak MiB"]


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the page of the results that there are."""
    cells = list(results["cells"].values())
    lines = ["# This project's quantizers and those that people use", "", *introduction(results)]
    for bits, group in sorted({(cell["bits"], cell["group"]) for cell in cells}, key=lambda one: (-one[1], one[0])):
        here = [cell for cell in cells if (cell["bits"], cell["group"]) == (bits, group)]
        lines += ["", f"## {bits} bits, groups of {group}", "", *section(here, results), *goal(here)]
    if not cells:
        lines += ["", "**Nothing is measured yet.**"]
    path.write_text("\n".join([*lines, *versions(cells)]) + "\n", encoding="utf-8")


def introduction(results: dict[str, Any]) -> list[str]:
    """What was measured, and how."""
    settings, machine = results["settings"], results.get("machine", {})
    paragraphs = (
        "Written by `bench/peers.py`. Each quantizes the linear layers of the decoder "
        "of `model=idefics3_smollm2` (106 M weights); embeddings, head, vision tower and connector stay as they are. "
        f"All are calibrated on the same {settings['calibration']} images of `dev`, with a question and its answer "
        "each: the decoder is handed out as a causal language model whose embeddings hold what the connector made of "
        "these images, so that libraries which take only token ids see them as well; none was given text alone. Grids "
        "of the libraries are asymmetric with integer zeros, but for hqq's float zeros; their other settings are their "
        "defaults. This project's are in bold, with integer zeros where nothing else is said.",
        "*KL* from the unquantized model (with its standard error) and *NLL* of the reference answer, in nats a token, "
        f"on {settings['judged']} questions of `val`; accuracy, AURC and coverage at 1 % risk of greedy answers to "
        f"{results.get('questions', 'the')} questions about {settings['asked']} images of `test`, with the answer's "
        "probability as confidence: so few that differences of some points are noise. *MiB* is codes, scales and zeros "
        "of the decoder, scales in 16 bits for all. *Processor s* is what quantizing took in all threads, from the "
        "loaded model to the quantized one; *peak* is that of its process, libraries and model included.",
        *([] if settings["layers"] == WHOLE else [f"A trial with the first {settings['layers']} layers alone."]),
        f"Measured on {machine.get('cpu', 'a CPU')}, {settings['threads']} thread, beside other jobs.",
    )
    wrapped = [textwrap.fill(paragraph, 120, break_on_hyphens=False) for paragraph in paragraphs]
    return [line for paragraph in wrapped for line in (*paragraph.splitlines(), "")][:-1]


def section(cells: list[dict[str, Any]], results: dict[str, Any]) -> list[str]:
    """One table, the least KL first, the unquantized model on top."""
    done = sorted((cell for cell in cells if "failed" not in cell), key=lambda cell: float(cell["kl"]))
    rows = [["unquantized", "16", "", "", *quality(results["unquantized"]), "", ""]] if "unquantized" in results else []
    rows += [row_of(cell) for cell in done]
    failed = [f"- {NAMES[cell['recipe']]} failed: `{cell['failed']}`" for cell in cells if "failed" in cell]
    return [*table(HEADER, rows), *(["", *failed] if failed else [])]


def row_of(cell: dict[str, Any]) -> list[str]:
    """The figures of a cell."""
    return [
        NAMES[cell["recipe"]],
        f"{cell['bits_a_weight']:.2f}",
        f"{cell['bytes'] / 2**20:.1f}",
        f"{cell['kl']:.3f} ± {cell['kl_error']:.3f}",
        *quality(cell),
        f"{cell['processor_seconds']:.0f}",
        f"{cell['peak_mib']:.0f}",
    ]


def quality(found: dict[str, Any]) -> list[str]:
    """Likelihood and answers, the latter in percent."""
    percent = [f"{100 * found[name]:.1f}" for name in ("accuracy", "aurc", "coverage_at_1pct_risk")]
    return [f"{found['nll']:.3f}", *percent]


def goal(cells: list[dict[str, Any]]) -> list[str]:
    """This project's least KL against the libraries', each with what it takes; nothing where one side is missing."""
    done = [cell for cell in cells if "failed" not in cell]
    own = [cell for cell in done if NAMES[cell["recipe"]].startswith("**")]
    peers = [cell for cell in done if cell not in own]
    if not own or not peers:
        return []
    peer = min(peers, key=lambda cell: float(cell["kl"]))
    equal = [cell for cell in own if cell["bytes"] <= peer["bytes"]]
    lines = []
    for said, some in (("at no more bytes", equal), ("at any", own)):
        if some:
            best = min(some, key=lambda cell: float(cell["kl"]))
            lines.append(
                f"The best library is {NAMES[peer['recipe']]} (KL {peer['kl']:.3f}); of this project's {said}, "
                f"{NAMES[best['recipe']]} has {best['kl']:.3f}, {best['kl'] / peer['kl']:.2f} of it, in "
                f"{best['processor_seconds'] / peer['processor_seconds']:.2f} of its processor seconds."
            )
    return ["", *lines]


def versions(cells: list[dict[str, Any]]) -> list[str]:
    """The releases that were measured."""
    found = sorted({(name, one) for cell in cells for name, one in cell.get("versions", {}).items()})
    return ["", "Versions: " + ", ".join(f"{name} {one}" for name, one in found) + "."] if found else []


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
