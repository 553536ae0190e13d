"""Qwen2-VL-7B and Idefics3-8B with random weights, quantized and measured against the limits of the hardware.

Run as `python bench/full_size.py` on a machine with an H100 (the baseline takes 16 GiB; nothing is fetched). Each model
is built from its published sizes on the device, a decoder layer at a time, and each layer is quantized before the next
one is made. Measured are: resident memory against what `footprint` predicts, seconds to quantize, prompt tokens a
second, and decoded tokens a second in plain calls and as a CUDA graph, for each kernel that is installed, against the
bound that the memory's bandwidth sets. Each result is written to `bench/results/full_size.json` as it comes; a run that
was cut off goes on where it was.

`--size layers` keeps all widths but two decoder layers and one of vision: what a CPU can measure of a layer.
`--size tiny` takes the small reference models: it only proves that the runner runs.
"""

import argparse
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from full_size_build import GIB, Built, build
from full_size_measure import (
    DecodeStep,
    bandwidth,
    best_seconds,
    decode_seconds,
    graph_seconds,
    prefill_seconds,
    read_bytes,
)
from full_size_models import NAMES, Size
from full_size_results import RESULTS, machine, read_results, same_machine, write_results
from full_size_targets import judgements
from torch import nn

from reliabit.quant import QuantLinear
from reliabit.quant.kernels.dispatch import KERNELS, TOLERANCE, self_test

WIDTHS = (None, 8, 4, 3, 2)
"""None is the unquantized baseline in bfloat16."""
EAGER = "eager"
H100_BYTES_A_SECOND = 3.35e12
"""The published figure; a real one copies at about nine tenths of it."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        prompt: Tokens of the prompt.
        decoded: Tokens that are decoded in a round.
        rounds: Rounds, of which the best counts.
    """

    prompt: int
    decoded: int
    rounds: int


EFFORTS: dict[Size, Effort] = {"full": Effort(1024, 128, 5), "layers": Effort(64, 2, 2), "tiny": Effort(16, 3, 1)}


def kernel_names(bits: int | None, device: torch.device) -> list[str]:
    """The ways to multiply that are worth a try: no kernel, and each kernel for such a device."""
    if bits is None:
        return ["bf16"]
    return [EAGER, *(kind.name for kind in KERNELS if kind.device_type == device.type)]


@torch.no_grad()
def use_kernel(model: nn.Module, name: str) -> dict[str, Any]:
    """Give each quantized layer one certain kernel where that serves it and is right; what came of it."""
    layers = [module for module in model.modules() if isinstance(module, QuantLinear)]
    kind, failed = next((kind for kind in KERNELS if kind.name == name), None), None
    held = []
    for layer in layers:
        layer.use(None, torch.bfloat16)
        if kind is not None and kind.supports(layer, torch.bfloat16) and failed is None:
            try:
                kernel = kind.prepare(layer, torch.bfloat16)
                if self_test(kernel, layer) <= TOLERANCE:
                    layer.use(kernel, torch.bfloat16)
                    held.append(kernel)
            except Exception as error:
                # Another library's kernel that fails is a finding, and no reason to lose the others.
                failed = f"{type(error).__name__}: {error}"
    extra = sum(tensor.nbytes for kernel in held for tensor in kernel.tensors)
    found = {"layers_served": len(held), "layers_quantized": len(layers), "kernel_extra_gib": extra / GIB}
    return found if failed is None else {**found, "kernel_failed": failed}


def speeds(built: Built, effort: Effort, *, copied: float, device: torch.device) -> dict[str, Any]:
    """Prefill and decoding against what the bandwidth allows."""
    head = built.model.get_submodule("lm_head")
    layers = built.text.get_submodule("layers")
    step = DecodeStep(built.model, built.text, length=effort.prompt + effort.decoded)
    plain = decode_seconds(step, tokens=effort.decoded, rounds=effort.rounds)
    graph = graph_seconds(step, tokens=effort.decoded, rounds=effort.rounds) if device.type == "cuda" else None
    read, best = read_bytes(layers, head), graph or plain
    prefill = prefill_seconds(built.text, tokens=effort.prompt, rounds=effort.rounds)
    found: dict[str, Any] = {
        "prompt_tokens": effort.prompt,
        "prefill_tokens_a_second": effort.prompt / prefill,
        "decode_tokens_a_second": 1 / plain,
        "decode_tokens_a_second_graph": None if graph is None else 1 / graph,
        "read_bytes_a_token": read,
        "copy_gb_a_second": copied / 1e9,
        "share_of_copy_bandwidth": read / best / copied,
    }
    if device.type == "cuda":
        found["share_of_published_bound"] = read / best / H100_BYTES_A_SECOND
        return found
    alone = layers_seconds(step, effort)
    return {**found, **layer_speed(alone / len(list(layers.children())), layers, copied=copied)}


@torch.no_grad()
def layers_seconds(step: DecodeStep, effort: Effort) -> float:
    """Seconds a token of the decoder layers alone, without output embeddings."""
    step.restart()
    return best_seconds(step.hidden, step.token.device, rounds=effort.rounds * effort.decoded)


def layer_speed(seconds: float, layers: nn.Module, *, copied: float) -> dict[str, float]:
    """What one decoder layer takes a token."""
    own = read_bytes(layers) / len(list(layers.children()))
    return {
        "layer_mib": own / 2**20,
        "layer_milliseconds_a_token": 1e3 * seconds,
        "layer_gb_a_second": own / seconds / 1e9,
        "layer_share_of_copy_bandwidth": own / seconds / copied,
    }


def measure(
    name: str, size: Size, bits: int | None, *, wanted: list[str], device: torch.device
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build a model once, and measure it with each of some kernels."""
    built, copied = build(name, size, bits, device), bandwidth(device)
    for kernel in wanted:
        served = {} if bits is None else use_kernel(built.model, kernel)
        if bits is not None and kernel != EAGER and not served["layers_served"]:
            yield kernel, {**built.facts, **served, "skipped": "the kernel is not installed, or serves no layer"}
            continue
        try:
            found = speeds(built, EFFORTS[size], copied=copied, device=device)
        except RuntimeError as error:
            # A kernel that a graph cannot record, say.
            found = {"failed": str(error).splitlines()[0]}
        yield kernel, {**built.facts, **served, **found}


def run(
    size: Size, device: torch.device, file: Path, *, names: list[str], widths: list[int | None]
) -> dict[str, dict[str, Any]]:
    """Measure what has no result of this machine yet, and write each result as it comes."""
    here, results = machine(device.type), read_results(file)
    found: dict[str, dict[str, Any]] = results.setdefault("configurations", {})
    for name in names:
        for bits in widths:
            keys = {f"{size}/{name}/{bits or 16}/{kernel}": kernel for kernel in kernel_names(bits, device)}
            wanted = {
                kernel: key
                for key, kernel in keys.items()
                if not same_machine(found.get(key, {}).get("machine", {}), here)
            }
            if not wanted:
                continue
            for kernel, result in measure(name, size, bits, wanted=list(wanted), device=device):
                found[wanted[kernel]] = {"machine": here, **result}
                write_results(results, file)
                print(wanted[kernel], result.get("skipped") or result.get("failed") or "measured", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    return found


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=get_args(Size), default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", choices=NAMES, action="append", help="only this one; may be given again")
    parser.add_argument("--bits", type=int, choices=[bits or 16 for bits in WIDTHS], action="append")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.size == "full" and given.device == "cpu":
        parser.error("whole models are measured on a GPU; take --size layers on a CPU")
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    chosen = given.bits or [bits or 16 for bits in WIDTHS]
    widths = [None if bits == 16 else bits for bits in chosen]
    found = run(given.size, torch.device(given.device), given.results, names=given.model or list(NAMES), widths=widths)
    print("\n".join(judgements(found)))


if __name__ == "__main__":
    main()
