"""One quantization of the decoder that `bench/peers.py` hands out, by one library, in a process of its own.

`python bench/peers_quantizing.py <recipe> --decoder <folder> --bits 3 --group 64 --to <folder>` runs in the environment
of the library that the recipe names; it takes nothing else from this repository, but for this project's own recipes. It
writes a checkpoint as the library writes it, and `measured.json`: what it took from the loaded model to the quantized
one, and on the whole; loading the model, importing libraries and writing files is left out of the seconds.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MEASURED = "measured.json"
CODES = "codes.safetensors"
"""Of libraries without a format of their own: `<module>.codes`, `.scale`, `.zero`, and whatever else was changed."""

Quantize = Callable[["Job"], Callable[[Path], None]]
"""Quantizes, and returns what writes the result."""

BATCH = 16
AUTO_ROUND_STEPS = {"auto_round": 200, "auto_round_light": 50}


class Job:
    """What a library is to do.

    Attributes:
        decoder: A folder with the model and the calibration set.
        model: The model, in float32; the library may change it.
        sequences: Token ids, `[tokens]` each.
        targets: The answer tokens of each, where they are predicted.
        words: The first id that is an image token.
        bits: Of a code.
        group: Inputs that share a scale and a zero.
    """

    def __init__(self, decoder: Path, *, bits: int, group: int, load: Callable[["Job"], Any]) -> None:
        """Read the calibration set, and the model as the library wants it."""
        tensors = load_file(decoder / "sequences.safetensors")
        self.decoder, self.bits, self.group = decoder, bits, group
        self.sequences = [tensors[f"ids/{number}"] for number in range(len(tensors) // 2)]
        self.targets = [tensors[f"targets/{number}"] for number in range(len(tensors) // 2)]
        self.words = int(tensors["words"])
        self.model = load(self)

    @property
    def linears(self) -> dict[str, nn.Linear]:
        """The linear layers to quantize, by name."""
        found = self.model.named_modules()
        return {name: one for name, one in found if isinstance(one, nn.Linear) and ".layers." in name}


def batches_of_a_length(sequences: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Batches of at most 16 sequences of one length: without padding, which not every library leaves out.

    >>> [tuple(one["input_ids"].shape) for one in batches_of_a_length([torch.ones(3), torch.ones(2), torch.ones(3)])]
    [(1, 2), (2, 3)]
    """
    lengths = sorted({len(ids) for ids in sequences})
    found = []
    for length in lengths:
        same = [ids for ids in sequences if len(ids) == length]
        for start in range(0, len(same), BATCH):
            ids = torch.stack(same[start : start + BATCH])
            found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return found


def load_plainly(job: Job) -> Any:
    """The model as transformers loads it."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(job.decoder, dtype=torch.float32).eval()


def load_gptqmodel(job: Job) -> Any:
    """The model as GPTQModel loads it, with the settings of its quantization."""
    # With one or two cores it refuses to load anything unless told to start two workers.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(bits=job.bits, group_size=job.group, sym=False, device="cpu")
    return GPTQModel.load(str(job.decoder), config, dtype=torch.float32)


def llm_compressor(job: Job, *, awq: bool) -> Callable[[Path], None]:
    """GPTQ or AWQ of llm-compressor, with its defaults: the order of activations with static groups, damping 0.01."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    weights = {"num_bits": job.bits, "type": "int", "symmetric": False, "strategy": "group", "group_size": job.group}
    settings: dict[str, Any] = {
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    if awq and not torch.accelerator.is_available():
        # It pins memory without asking whether there is an accelerator
        # (findings/llmcompressor_awq_without_accelerator.sh).
        IntermediatesCache.pin_memory = lambda *_: None
    recipe = [AWQModifier(), QuantizationModifier(**settings)] if awq else [GPTQModifier(**settings)]
    rows = batches_of_a_length(job.sequences)
    data: Any = DataLoader(rows, batch_size=None)  # type: ignore[arg-type]
    # It asks for a tokenizer although the data set is one of tokens.
    tokenizer = AutoTokenizer.from_pretrained(job.decoder)
    oneshot(
        model=job.model,
        tokenizer=tokenizer,
        dataset=data,
        recipe=recipe,
        num_calibration_samples=len(rows),
        pipeline="sequential",
    )
    return lambda folder: job.model.save_pretrained(folder, save_compressed=True)


def auto_round(job: Job, *, steps: int) -> Callable[[Path], None]:
    """AutoRound: rounding and ranges learned by signed gradients, so many steps a block."""
    from auto_round import AutoRound
    from transformers import AutoTokenizer

    longest = max(map(len, job.sequences))
    rows = [
        {
            "input_ids": nn.functional.pad(ids, (0, longest - len(ids)))[None],
            "attention_mask": nn.functional.pad(torch.ones_like(ids), (0, longest - len(ids)))[None],
        }
        for ids in job.sequences
    ]
    rounding: Any = AutoRound(
        job.model,
        AutoTokenizer.from_pretrained(job.decoder),
        bits=job.bits,
        group_size=job.group,
        sym=False,
        iters=steps,
        dataset=rows,
        seqlen=longest,
        nsamples=len(rows),
        batch_size=8,
        device_map="cpu",
        enable_torch_compile=False,
    )
    rounding.quantize()
    return lambda folder: rounding.save_quantized(str(folder), format="auto_gptq")


def gptqmodel(job: Job) -> Callable[[Path], None]:
    """GPTQ of GPTQModel with its defaults, on a CPU."""
    rows: Any = [{"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]} for ids in job.sequences]
    job.model.quantize(rows, batch_size=1)
    return lambda folder: job.model.save(str(folder))


def hqq(job: Job) -> Callable[[Path], None]:
    """HQQ of the library hqq, data-free, scales and zeros in 32 bits."""
    from hqq.core.quantize import Quantizer

    found: dict[str, Tensor] = {}
    for name, linear in job.linears.items():
        weight = linear.weight.detach()
        packed, meta = Quantizer.quantize(
            weight,
            nbits=job.bits,
            group_size=job.group,
            axis=1,
            optimize=True,
            device="cpu",
            compute_dtype=torch.float32,
            bitpack=False,
        )
        rows = len(weight)
        found[f"{name}.codes"] = packed.reshape(weight.shape).to(torch.uint8)
        found[f"{name}.scale"] = meta["scale"].reshape(rows, -1).float()
        found[f"{name}.zero"] = meta["zero"].reshape(rows, -1).float()
    return _codes_writer(found)


def ours(job: Job, *, name: str) -> Callable[[Path], None]:
    """A configuration of this project, statistics measured on the same sequences where it takes any."""
    from peers_ours import quantize_ours

    quantize_ours(job, name=name)
    from reliabit.quant.convert import packed_modules

    packed = packed_modules(job.model)
    found = {}
    for module, one in packed.items():
        weight = one.quantized_weight()
        found |= {f"{module}.codes": weight.codes, f"{module}.scale": weight.scale, f"{module}.zero": weight.zero}
    rest = {
        key: tensor
        for key, tensor in job.model.state_dict().items()
        if key.rpartition(".")[0] not in packed and ("norm" in key)
    }
    return _codes_writer({**found, **rest})


def _codes_writer(tensors: dict[str, Tensor]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / CODES)

    return write


def recipe_of(name: str) -> tuple[str, Quantize]:
    """The package whose version counts, and what quantizes."""
    if name.startswith("llm_compressor_"):
        return "llmcompressor", lambda job: llm_compressor(job, awq=name.endswith("awq"))
    if name in AUTO_ROUND_STEPS:
        return "auto-round", lambda job: auto_round(job, steps=AUTO_ROUND_STEPS[name])
    if name == "gptqmodel":
        return "gptqmodel", gptqmodel
    if name == "hqq_library":
        return "hqq", hqq
    return "reliabit", lambda job: ours(job, name=name)


def processor_seconds() -> float:
    """What this process and those that it started have computed so far, in all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def forget_peak() -> None:
    """Let the most memory that was resident be what is resident now; Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """The most memory that this process has had resident since then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Quantize, write, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--group", type=int, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    package, quantize = recipe_of(arguments.recipe)
    load = load_gptqmodel if quantize is gptqmodel else load_plainly
    job = Job(arguments.decoder, bits=arguments.bits, group=arguments.group, load=load)
    forget_peak()
    before, wall, loaded = processor_seconds(), time.perf_counter(), peak_mib()
    write = quantize(job)
    measured = {
        "processor_seconds": round(processor_seconds() - before, 2),
        "seconds": round(time.perf_counter() - wall, 2),
        "loaded_mib": round(loaded),
        "peak_mib": round(peak_mib()),
        "threads": arguments.threads,
        "versions": {name: version(name) for name in (package, "torch", "transformers")},
    }
    arguments.to.mkdir(parents=True, exist_ok=True)
    write(arguments.to)
    # The last thing that is written: a folder without it is of a process that failed.
    (arguments.to / MEASURED).write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
