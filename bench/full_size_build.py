"""Building a full-size model with random weights, each decoder layer quantized before the next one is made."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from full_size_measure import synchronize
from full_size_models import DECODER_LAYERS, Size, config_of, fill
from torch import nn

from reliabit.quant import Plan, Scheme, default_plan, footprint
from reliabit.quant.checkpoint_io import compute_buffers, skeleton
from reliabit.quant.convert import check_schemes, convert
from reliabit.quant.streaming.streamed_decoder import map_large_blocks

GIB = 2**30
METHOD, GROUP_SIZE = "hqq", 64


@dataclass(frozen=True)
class Built:
    """A model on the device.

    Attributes:
        model: The model.
        text: Its part with the decoder layers.
        facts: What building it took.
    """

    model: nn.Module
    text: nn.Module
    facts: dict[str, Any]


def build(name: str, size: Size, bits: int | None, device: torch.device) -> Built:
    """Build a model with random weights, each decoder layer quantized as soon as it is there."""
    map_large_blocks()
    config, path = config_of(name, size), DECODER_LAYERS[name]
    plan = None if bits is None else plan_of(bits)
    predicted = footprint(config, plan).size.resident_bytes
    model = skeleton(config, torch.bfloat16).eval().requires_grad_(False)
    schemes = {} if plan is None else check_schemes(model, plan)
    compute_buffers(model)
    before, seconds = resident(device), list[float]()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def quantize(layer: str) -> None:
        synchronize(device)
        start = time.perf_counter()
        for module in (module for module in schemes if module.startswith(f"{layer}.")):
            convert(model, module, schemes[module])
        synchronize(device)
        seconds.append(time.perf_counter() - start)

    fill(model, device, path=path, visit=quantize)
    taken = resident(device) - before
    facts = {
        "layers": len(seconds),
        "resident_gib": taken / GIB,
        "predicted_gib": predicted / GIB,
        "resident_over_predicted": taken / predicted,
        "peak_gib": (torch.cuda.max_memory_allocated(device) - before) / GIB if device.type == "cuda" else None,
        "quantize_seconds": None if plan is None else sum(seconds),
        "quantize_seconds_a_layer": None if plan is None else sorted(seconds)[len(seconds) // 2],
    }
    return Built(model, model.get_submodule(path.rpartition(".")[0]), facts)


def plan_of(bits: int) -> Plan:
    """What is quantized: the decoder's linear layers."""
    return default_plan(Scheme(METHOD, bits, GROUP_SIZE))


def resident(device: torch.device) -> int:
    """Bytes that tensors take on a GPU, and that the process has taken for itself on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
