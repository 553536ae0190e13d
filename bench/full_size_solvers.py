"""Seconds that each data-free method takes over one decoder layer of the full-size models, on one CPU thread.

Run as `python bench/full_size_solvers.py` from the repository's root; about ten minutes on a quiet machine. Weights are
random, in bfloat16. The time is the process's own on its processor, so that other jobs count little. What is measured
already on this machine is kept.
"""

import time

import torch
from full_size_models import DECODER_LAYERS, NAMES, Depth, fill_layer, full_size_config
from full_size_results import machine, read_results, same_machine, write_results

from reliabit.quant import Scheme, default_plan
from reliabit.quant.checkpoint_io import skeleton
from reliabit.quant.convert import check_schemes, convert

GROUP_SIZE = 64
MEASURED = (("hqq", 8), ("hqq", 4), ("hqq", 3), ("hqq", 2), ("rtn", 4), ("hqq_plus", 4))
"""Methods and widths; what rtn and hqq_plus take hardly depends on the width (`docs/quantization.md`)."""


@torch.no_grad()
def seconds_a_layer(name: str, method: str, bits: int) -> float:
    """Seconds to quantize and pack the linear layers of one decoder layer."""
    model = skeleton(full_size_config(name, Depth(1, 1)), torch.bfloat16)
    layer = f"{DECODER_LAYERS[name]}.0"
    fill_layer(model.get_submodule(layer), torch.device("cpu"), torch.Generator().manual_seed(0))
    schemes = check_schemes(model, default_plan(Scheme(method, bits, GROUP_SIZE)))
    start = time.process_time()
    for module, scheme in schemes.items():
        convert(model, module, scheme)
    return time.process_time() - start


def main() -> None:
    """Measure what is missing, and write each result as it comes."""
    torch.set_num_threads(1)
    results = read_results()
    found = results.setdefault("solvers", {})
    for method, bits in MEASURED:
        for name in NAMES:
            key, here = f"{name}/{method}/{bits}", machine("cpu")
            if not same_machine(found.get(key, {}).get("machine", {}), here):
                found[key] = {"machine": here, "seconds_a_layer": seconds_a_layer(name, method, bits)}
                write_results(results)
                print(key, found[key]["seconds_a_layer"], flush=True)


if __name__ == "__main__":
    main()
