"""Writes docs/engines_parity.md from bench/results/parity.json: run `python bench/parity_page.py` after parity.py."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "bench" / "results" / "parity.json", ROOT / "docs" / "engines_parity.md"

ENGINES = {
    "vllm_float32": "vLLM, float32",
    "vllm_server": "vLLM's server",
    "vllm_bfloat16": "vLLM, bfloat16",
    "llamacpp_float32": "llama.cpp's server, float32",
}
"""Engines as the results and the page name them."""

COLUMNS = (
    *("model", "bits", "engine", "equal", "log-probability: median", "largest", "AURC"),
    *("accepted", "of it wrong", "otherwise"),
)


NOTES = (
    "The exports at 8 and 4 bits measured here have integer zeros, those at 3 and 2 bits are symmetric (8 bits are "
    "symmetric by default since). llama.cpp shows an Idefics3 model every picture twice, as a tile and as an overview, "
    "after two line breaks: another prompt than it was trained on, which is more than rounding. Its answers are then "
    "those of another model: certify on the answers of the engine that serves. What is neither here nor named below "
    "was not measured, among it vLLM's server with idefics3_tiny, and idefics3_smollm2 at 2 bits, of whose answers "
    "rounding leaves none.",
)


def page(found: Mapping[str, Any]) -> str:
    """The page."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    n, claim = found["questions"], found["certified"]
    lines = [
        "# Engines beside each other, measured",
        "",
        "<!-- Written by bench/parity_page.py; do not edit. -->",
        "",
        f"{n} questions of easy-VQA's test split, answered by us (transformers, float32), by vLLM and by llama.cpp, "
        f"on {found['machine']}. {versions}.",
        "",
        "Each model is answered as it is, and exported at 8, 4, 3 and 2 bits (`task=quantize "
        "task.format=compressed_tensors quant=rtn`). *float32* rows are of the export's weights written out in float32 "
        "(for llama.cpp as GGUF), so that the engine alone differs; *bfloat16* rows are of the export itself with the "
        "engine's own kernels, and bfloat16 besides. vLLM's server answers the unquantized model in float32 and the "
        "export at 4 bits in bfloat16; the other rows of vLLM are of `vllm.LLM`.",
        "",
        "*Equal* counts answers that are the same text. Differences of log-probability are of whole answers that are "
        "equal, end token included. A threshold was certified on *our* answers to other questions (risk at most "
        f"{claim['risk']:g} with probability {1 - claim['delta']:g}) and applied to everybody's log-probabilities: "
        "what it accepts, how much of that is wrong, and for how many questions it decides otherwise than on ours.",
        "",
        _line(COLUMNS),
        _line(["---"] * len(COLUMNS)),
        *_rows(found["cells"], n),
        "",
        *NOTES,
        "",
        "## What did not run",
        "",
        *(_refusals(found["cells"]) or ["Everything ran."]),
    ]
    return "\n".join(lines) + "\n"


def _rows(cells: Mapping[str, Any], n: int) -> Iterator[str]:
    for name, cell in cells.items():
        own = cell["ours"]
        yield _line([*name.split("/"), "ours", f"{n}", "", "", *_judged(own), ""])
        for key, engine in ENGINES.items():
            one = cell.get(key)
            if one is None or "refused" in one:
                continue
            apart = [_small(one["median_difference"]), _small(one["largest_difference"])]
            yield _line(["", "", engine, f"{one['equal']}", *apart, *_judged(one), f"{one['decided_otherwise']}"])


def _judged(one: Mapping[str, Any]) -> list[str]:
    return [f"{one['aurc']:.4f}", f"{one['coverage']:.1%}", "" if one["risk"] is None else f"{one['risk']:.1%}"]


def _line(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def _refusals(cells: Mapping[str, Any]) -> list[str]:
    found: dict[str, list[str]] = {}
    for name, cell in cells.items():
        for key, engine in ENGINES.items():
            if "refused" in cell.get(key, {}):
                found.setdefault(f"{engine}: {cell[key]['refused']}", []).append(name)
    return [f"- {', '.join(names)}, {reason}" for reason, names in found.items()]


def main() -> None:
    """Write it."""
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
